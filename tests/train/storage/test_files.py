"""Files that options name: refused, or written completely."""

from pathlib import Path

import pytest

from train.errors import ConfigError, OutputError
from train.storage.files import check_new, check_suffix, write_file


def test_an_existing_file_is_refused_unless_it_may_be_replaced(tmp_path):
    path = tmp_path / "a.csv"
    check_new(path, overwrite=False)
    check_new(None, overwrite=False)
    path.write_text("mine")
    with pytest.raises(OutputError, match=r"a.csv exists.*--overwrite"):
        check_new(path, overwrite=False)
    check_new(path, overwrite=True)


def test_a_link_to_nothing_exists(tmp_path):
    (tmp_path / "a.csv").symlink_to(tmp_path / "missing")
    with pytest.raises(OutputError, match="exists"):
        check_new(tmp_path / "a.csv", overwrite=False)


def test_folders(tmp_path):
    with pytest.raises(OutputError, match="is a folder"):
        check_new(tmp_path, overwrite=True)
    with pytest.raises(OutputError, match=r"there is no folder .*none"):
        check_new(tmp_path / "none" / "a.csv", overwrite=False)


def test_suffixes():
    check_suffix("out", None, ".csv")
    with pytest.raises(ConfigError, match=r"out must end in \.csv or \.json; got a"):
        check_suffix("out", Path("a.txt"), ".csv", ".json")


def test_what_fails_leaves_the_earlier_file_alone(tmp_path):
    path = tmp_path / "a.txt"
    write_file(path, lambda to: to.write_text("first"))

    def fail(to):
        to.write_text("sec")
        raise OSError(28, "No space left on device")

    with pytest.raises(OutputError, match=r"cannot write .*No space left"):
        write_file(path, fail)
    assert path.read_text() == "first"
    assert [file.name for file in tmp_path.iterdir()] == ["a.txt"]
