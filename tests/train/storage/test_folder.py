"""Files that the training program did not write are never changed."""

import json
import shutil

import numpy as np
import pytest
from trainings import begun

from train.__main__ import main
from train.errors import OutputError
from train.storage.checkpoints import Checkpoint
from train.storage.folder import LOCK, MARKER, Folder

OPTIONS = ["--dataset", "digits", "--steps", "4", "--batch-size", "8"]
OPTIONS += ["--parameters", "60000"]
RUN = ["run", "r-fcn", *OPTIONS]
TABLE = ["table", *OPTIONS, "--columns", "r", "--rows", "fcn", "--seeds", "1"]
COLOCALIZATION = ["run", "colocalization", "--dataset", "digits"]


def contents(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


# through the command line

FOREIGN = [
    ["checkpoints/weights.bin"],
    ["figure.png"],
    ["results.json"],
    ["metrics.jsonl"],
    ["metrics.jsonl", "results.json", "figure.png", "curves.png"],  # earlier version's
    ["checkpoint/model.bin", "notes.txt"],
    ["report.md"],
    ["r-fcn/seed-0.json"],
    [".git/HEAD", "pyproject.toml"],
]


@pytest.mark.parametrize("flags", [[], ["--overwrite"], ["--resume"]])
@pytest.mark.parametrize(
    "command", [RUN, COLOCALIZATION], ids=["run", "colocalization"]
)
@pytest.mark.parametrize("names", FOREIGN, ids=lambda names: names[0])
def test_a_run_refuses_a_folder_that_is_not_its_own(
    tmp_path, capsys, names, command, flags
):
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"mine")
    before = contents(tmp_path)
    assert main([*command, *flags, "--out", str(tmp_path)]) == 1
    error = capsys.readouterr().err
    assert "is not empty, and this program did not make it" in error
    assert "Name another folder with --out" in error
    assert "of an earlier version" in error
    assert contents(tmp_path) == before


@pytest.mark.parametrize("names", FOREIGN, ids=lambda names: names[0])
def test_a_table_and_its_report_refuse_one(tmp_path, capsys, names):
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"mine")
    before = contents(tmp_path)
    assert main([*TABLE, "--out", str(tmp_path)]) == 1
    assert "Name another folder with --out" in capsys.readouterr().err
    assert main(["report", str(tmp_path)]) == 1
    assert "python -m train compare DIR/*/seed-*.json" in capsys.readouterr().err
    assert contents(tmp_path) == before


def test_the_folder_of_a_project_is_refused(tmp_path, monkeypatch, capsys):
    (tmp_path / "main.py").write_text("print()")
    monkeypatch.chdir(tmp_path)
    for command in (RUN, [*RUN, "--overwrite"], TABLE):
        assert main([*command, "--out", "."]) == 1
        assert "is not empty" in capsys.readouterr().err
    assert contents(tmp_path) == {"main.py": b"print()"}


def test_overwrite_removes_only_what_a_run_wrote(tmp_path, capsys):
    out = tmp_path / "out"
    assert main([*RUN, "--out", str(out)]) == 0
    first = contents(out)
    assert set(json.loads(first[MARKER])["files"]) == {*first} - {MARKER, LOCK}
    (out / "notes.txt").write_text("mine")
    (out / "checkpoints").mkdir()
    (out / "checkpoints" / "weights.bin").write_bytes(b"mine")
    assert main([*RUN, "--out", str(out), "--overwrite", "--steps", "5"]) == 0
    after = contents(out)
    assert after.keys() == {*first, "notes.txt", "checkpoints/weights.bin"}
    assert after["notes.txt"] == after["checkpoints/weights.bin"] == b"mine"
    assert json.loads(after["results.json"])["config"]["steps"] == 5
    # a file of the user among the states of a model
    (out / "checkpoints" / "fcn").mkdir()
    (out / "checkpoints" / "fcn" / "notes.txt").write_bytes(b"mine")
    before = contents(out)
    assert main([*RUN, "--out", str(out), "--overwrite"]) == 1
    assert "notes.txt was not written by this program" in capsys.readouterr().err
    assert contents(out) == before
    shutil.rmtree(out / "checkpoints" / "fcn")
    # a file of the user in the place of one that would be written
    (out / "r-fcn.gif").write_bytes(b"mine")
    (out / "fcn.gif").write_bytes(b"mine")
    before = contents(out)
    assert main([*RUN, "--out", str(out), "--overwrite", "--animate"]) == 1
    assert "fcn.gif was not written by this program" in capsys.readouterr().err
    assert contents(out) == before
    # a run does not replace a table
    assert main(["table", *TABLE[1:], "--out", str(out)]) == 1
    assert "holds results of python -m train run, not of" in capsys.readouterr().err


def test_a_resume_that_is_refused_changes_nothing(tmp_path, monkeypatch, capsys):
    out = tmp_path / "out"
    save = Checkpoint.save

    def interrupted(self, step, *rest):
        save(self, step, *rest)
        raise KeyboardInterrupt

    run = [*RUN, "--out", str(out)]
    with monkeypatch.context() as patch:
        patch.setattr(Checkpoint, "save", interrupted)
        assert main(run) == 130
    before = contents(out)
    assert any(name.startswith("checkpoints/fcn/4/") for name in before)
    assert before["metrics.jsonl"]
    for changes, message in (
        (["--steps", "6"], "steps is 4, not 6"),
        (["--seed", "1"], "seed is 0, not 1"),
        (["--models", "cnn"], "models is ['fcn'], not ['cnn']"),
        (["--models", "fcn", "cnn"], "models is ['fcn'], not ['fcn', 'cnn']"),
    ):
        assert main([*run, "--resume", *changes]) == 1
        assert message in capsys.readouterr().err
        assert contents(out) == before
    assert main([*run, "--resume"]) == 0


@pytest.mark.parametrize("flag", ["--resume", "--overwrite"])
def test_a_run_that_was_stopped_in_a_save_leaves_nothing(tmp_path, monkeypatch, flag):
    out, own = tmp_path / "out", tmp_path / "out" / "checkpoints" / "weights.bin"
    copyfile, sources = shutil.copyfile, []

    def interrupted(source, path):
        sources.append(source)
        if len(sources) == 4:
            raise KeyboardInterrupt
        copyfile(source, path)

    run = [*RUN, "--out", str(out)]
    with monkeypatch.context() as patch:
        patch.setattr("train.storage.folder.shutil.copyfile", interrupted)
        assert main(run) == 130
    states = [path for path in (out / "checkpoints").rglob("*") if path.is_file()]
    assert len(states) == 3
    own.write_bytes(b"mine")
    assert main([*run, flag]) == 0
    assert own.read_bytes() == b"mine"
    after = contents(out)
    assert {*json.loads(after[MARKER])["files"]} == {*after} - {
        MARKER,
        LOCK,
        "checkpoints/weights.bin",
    }
    assert [*(out / "checkpoints").iterdir()] == [own]


def test_a_report_does_not_replace_a_file_of_the_user(tmp_path, capsys):
    out = tmp_path / "out"
    cell = begun(out, "table")
    assert main([*TABLE, "--out", str(out)]) == 0
    cell.remove("report.md")
    (out / "report.md").write_text("mine")
    before = contents(out)
    capsys.readouterr()
    assert main(["report", str(out)]) == 1
    assert "report.md was not written by this program" in capsys.readouterr().err
    assert contents(out) == before
    # nor does a table train a cell over one
    cell.remove("r-fcn/seed-0.json")
    (out / "r-fcn" / "seed-0.json").write_text("{}")
    assert main([*TABLE, "--out", str(out)]) == 1
    assert "seed-0.json was not written by this program" in capsys.readouterr().err


# the folder itself


def test_a_file_is_written_completely_or_not_at_all(tmp_path):
    folder = begun(tmp_path / "new")
    folder.write("a/b.txt", lambda path: path.write_text("first"))

    def fails(path):
        path.write_text("half")
        raise ValueError

    with pytest.raises(ValueError):  # noqa: PT011
        folder.write("a/b.txt", fails)
    assert contents(folder.path).keys() == {MARKER, "a/b.txt"}
    assert (folder.path / "a" / "b.txt").read_text() == "first"
    assert folder.holds("a/b.txt")
    folder.remove("a/b.txt")
    assert contents(folder.path).keys() == {MARKER}
    assert not (folder.path / "a").exists()
    assert not folder.holds("a/b.txt")


def test_a_folder_is_copied_and_removed(tmp_path):
    source = tmp_path / "source"
    for name in ("x", "deep/y", "deep/er/z"):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_text(name)
    folder = begun(tmp_path / "out")
    folder.write("x", lambda path: path.write_text("ours"))
    folder.copy(source, "a/b")
    names = {"x", "a/b/x", "a/b/deep/y", "a/b/deep/er/z"}
    assert {*folder.files} == names == contents(folder.path).keys() - {MARKER}
    assert (folder.path / "a/b/deep/y").read_text() == "deep/y"
    (folder.path / "a/mine").write_text("mine")
    folder.remove(*names - {"x"}, "a/mine", "unknown")
    assert contents(folder.path).keys() == {MARKER, "x", "a/mine"}
    assert folder.files == ("x",)
    # nothing is copied if one of the files is someone else's
    (folder.path / "a/b/deep").mkdir(parents=True)
    (folder.path / "a/b/deep/y").write_text("mine")
    with pytest.raises(OutputError, match="was not written by this program"):
        folder.copy(source, "a/b")
    assert contents(folder.path).keys() == {MARKER, "x", "a/mine", "a/b/deep/y"}
    assert (folder.path / "a/b/deep/y").read_text() == "mine"


def test_links_are_replaced_and_not_followed(tmp_path):
    mine = tmp_path / "mine.txt"
    mine.write_text("mine")
    folder = begun(tmp_path / "out")
    for name in ("figure.png", "metrics.jsonl"):
        folder.write(name, lambda path: path.write_text("ours"))
        (folder.path / name).unlink()
        (folder.path / name).symlink_to(mine)
    folder.write("figure.png", lambda path: path.write_text("ours"))
    with folder.lines("metrics.jsonl") as write_line:
        write_line("ours")
    assert (folder.path / "metrics.jsonl").read_text() == "ours\n"
    assert mine.read_text() == "mine"
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "figure.png").write_text("ours")
    folder.copy(tmp_path / "new", "a")
    (folder.path / "a" / "figure.png").unlink()
    (folder.path / "a" / "figure.png").symlink_to(mine)
    folder.copy(tmp_path / "new", "a")
    assert mine.read_text() == "mine"
    (folder.path / "results.json").symlink_to(tmp_path / "nowhere")
    with pytest.raises(OutputError, match="was not written by this program"):
        folder.write("results.json", lambda path: path.write_text("ours"))


def test_a_marker_that_lists_files_elsewhere_is_refused(tmp_path):
    mine = tmp_path / "mine.txt"
    mine.write_text("mine")
    folder = begun(tmp_path / "out")
    marker = folder.path / MARKER
    whole = json.loads(marker.read_text())
    (folder.path / "link").symlink_to(tmp_path)
    for name in ("../mine.txt", str(mine), "link/mine.txt", "a/../../mine.txt", ""):
        marker.write_text(json.dumps({**whole, "files": [name]}))
        with pytest.raises(OutputError, match="is corrupt or not of this program"):
            folder.begin({})
    for content in ("", "[]", "{}", json.dumps({**whole, "program": "other"})):
        marker.write_text(content)
        with pytest.raises(OutputError, match="is corrupt or not of this program"):
            folder.begin({})
    assert mine.read_text() == "mine"


def test_a_folder_that_was_moved_or_copied_is_still_known(tmp_path):
    folder = begun(tmp_path / "out")
    folder.write("x.txt", lambda path: path.write_text("ours"))
    shutil.copytree(folder.path, tmp_path / "copy")
    copy = Folder(tmp_path / "copy", "run")
    assert copy.holds("x.txt")
    copy.begin({"a": 1})
    assert contents(copy.path).keys() == {MARKER}
    assert copy.marker().settings == {"a": 1}
    assert folder.holds("x.txt")


def test_a_state_that_was_listed_but_not_written_is_skipped(tmp_path):
    folder = begun(tmp_path)
    checkpoint = Checkpoint(folder, "state")
    checkpoint.save(1, {"x": np.arange(3)}, {"step": 1})
    with pytest.raises(KeyboardInterrupt):
        folder.write(
            "state/2/record", lambda path: (_ for _ in ()).throw(KeyboardInterrupt)
        )
    _, record = checkpoint.load()
    assert record == {"step": 1}
