"""Every row of the page that says how inputs are read is a test."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "inputs.md").read_text()

TESTS = {
    "8 bits": "test_sources::test_bands",
    "16 or 32 bits, signed": "test_sources::test_a_range_that_is_not_stated_is_taken_from_the_values_and_said",
    "`--scaling common`": "test_scenes::test_one_scaling_for_all_scenes_of_a_run",
    "colour PNG of 16 bits": "test_sources::test_sixteen_bits_of_a_png_are_those_of_a_geotiff",
    "bands with colours in their tags, in any order": "test_sources::test_colours_are_those_that_the_file_names",
    "more than three bands without tags": "test_sources::test_bands_that_are_guessed_are_said",
    "one band": "test_sources::test_bands",
    "a palette": "test_sources::test_a_colour_table_gives_its_colours",
    "opacity, nodata value, mask, NaN": "test_scenes::test_where_no_data_is_there_is_nothing_in_any_file",
    "`--nodata VALUE`": "test_scenes::test_a_collar_that_is_not_declared_is_noticed",
    "a border of one value that no tag declares": "test_scenes::test_a_collar_that_is_not_declared_is_noticed",
    "CMYK": "test_sources::test_inks_become_colours",
    "an orientation tag": "test_sources::test_photographs_are_upright",
    "a world file beside a photograph": "test_world_files::test_labels_and_polygons_have_the_place",
    "a world file that cannot be used": "test_world_files::test_what_cannot_be_used_is_said",
    "a raster whose transform is no place": "test_sources::test_a_place_that_is_none_is_left_out",
    "an animation": "test_sources::test_animations_are_refused",
    "several images in one TIFF": "test_sources::test_the_first_of_several_pages_is_read_and_said",
    "a photograph of any number of pixels": "test_sources::test_valid_images_beyond_pillow_s_limit_are_read",
    "a header that claims more pixels": "test_sources::test_a_size_that_the_file_cannot_hold_is_refused",
    "a format that is not read": "test_sources::test_formats_that_are_not_read",
    "a pipe, a device, links in circles": "test_cli::test_pipes_and_links_in_circles_end_at_once",
    "a file whose content": "test_sources::test_a_list_of_other_files_is_opened_by_its_own_name_alone",
    "images": "test_refine_cli::test_sixteen_bits_and_opacity",
    "masks of 1, 8, 16 or 32 bits": "test_mask_rasters::test_eight_bits_in_a_deeper_type_are_read_as_such_and_said",
    "floating-point masks": "test_mask_rasters::test_floating_point",
    "numbered objects or classes": "test_mask_rasters::test_numbered_objects_are_no_mask_of_one",
    "a mask whose coordinate reference system": "test_refine_cli::test_a_mask_of_another_place_is_refused",
    "a mask or class raster of more than four bands": "test_mask_rasters::test_a_picture_of_many_bands_is_no_mask",
    "a class raster": "test_refine_cli::test_a_refined_class_raster_says_all_that_it_said_before",
    "grey values of 1, 2, 4 or 8 bits": "test_label_files::test_png_of_few_bits",
    "16 or 32 bits, floating point, grey with opacity": "test_label_files::test_every_depth_that_holds_labels_is_read",
    "a palette with the colours": "test_label_files::test_a_palette_in_another_order_is_followed",
    "a palette of other colours": "test_label_files::test_a_palette_of_other_colours_says_nothing",
    "colours": "test_datasets::test_strange_colours_are_counted",
    "an orientation tag of labels": "test_label_files::test_image_and_labels_are_turned_alike",
    "a value that the classes do not have": "test_data::test_strange_values_are_counted",
    "a class without a pixel": "test_label_files::test_masks_of_black_and_white_are_said",
    "no pixel with a class": "test_label_files::test_labels_that_are_all_ignored",
    "files of COCO": "test_label_files::test_annotation_files_are_recognised",
    "evaluation images of several sizes": "test_finetune::test_whole_images_of_several_sizes_are_measured_in_batches",
    "frames": "test_video::test_times_of_frames_and_sound_are_kept",
    "sound": "test_video::test_sound_that_the_format_cannot_hold_is_said",
    "a file that is cut short": "test_video::test_a_file_that_is_cut_short",
    "a damaged frame": "test_video::test_frames_of_another_size_end_a_video",
    "a config whose": "test_finetune::test_sections_of_another_type",
    "a number of images that is null": "test_finetune::test_numbers_of_images_that_are_none",
    "a damaged `last.ckpt`": "test_finetune::test_a_damaged_checkpoint_is_said_before_anything_is_done",
    "a run's folder with another data set": "test_finetune::test_a_run_goes_on_with_its_own_classes_alone",
    "an interrupted scene whose notes": "test_interrupt::test_a_damaged_journal_begins_anew",
    "an interrupted scene of other weights": "test_scenes::test_another_run_s_remains_are_kept",
    "no room on the disk": "test_export::test_a_full_disk_leaves_nothing",
    "a missing package": "test_cli::test_a_missing_package_is_said_with_what_brings_it",
    "wrappers": "test_convert::test_wrappers",
    "prefixes of every name": "test_convert::test_wrappers",
    "averaged weights": "test_convert::test_averaged_weights_are_taken_and_it_is_said",
    "objects of foreign classes": "test_convert::test_what_frameworks_leave_beside_the_tensors",
    "more than 1,000 foreign classes": "test_convert::test_a_file_of_nothing_but_classes_is_answered_at_once",
    "weights that are no numbers": "test_card::test_weights_that_are_no_numbers",
}
"""The test of each row, by the words that it begins with."""


def rows() -> list[str]:
    """The first cells of all tables, in which the second row of that name is told apart by its table."""
    lines = [line for line in PAGE.splitlines() if line.startswith("| ") and not line.startswith("| input")]
    cells = [re.split(r" \| ", line[2:], maxsplit=1)[0] for line in lines]
    second = len(cells) - 1 - cells[::-1].index("an orientation tag")
    cells[second] += " of labels"
    return cells


def test_every_row_has_a_test() -> None:
    for row in rows():
        assert any(row.startswith(words) for words in TESTS), row
    for words in TESTS:
        assert any(row.startswith(words) for row in rows()), words


def test_every_named_test_exists() -> None:
    for test in TESTS.values():
        file, name = test.split("::")
        functions = ast.parse((ROOT / "tests" / f"{file}.py").read_text()).body
        assert name in {node.name for node in functions if isinstance(node, ast.FunctionDef)}, test
