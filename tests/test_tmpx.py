import time
from tests.test_interrupt import *
def test_x(uninterrupted,tmp_path):
    for mode in SIZES:
        for k in range(3):
            t=time.time(); 
            o=uninterrupted(mode)
            if k: 
                o=replace(o,folder=tmp_path/f"{mode}{k}"); assert ended(start(segment,o))==0
            print(mode,time.time()-t,{k: len(v) for k, v in o.results().items()})
