"""A scene of any size segmented task by task: what it is read and written as, what is done already, what comes next.

How a network is run over it is not said here: `segscape.scenes.streaming` and `segscape.inference.tiling` do that.
"""
