import json
import logging
import subprocess
import sys
from pathlib import Path

import pytest

from keras_qan.plots import EmptyRunError, draw
from keras_qan.plots.records import read_records

ALL = ["accuracy_by_epoch", "learning_rate", "learning_rate_detail", "actions", "learning"]
SCRIPT = Path(__file__).parents[2] / "scripts" / "plot_run.py"


def is_picture(path):
    return path.read_bytes().startswith(b"\x89PNG") and path.stat().st_size > 5_000


@pytest.mark.slow
def test_a_complete_run_gets_all_figures(run, caplog):
    written = draw(run)
    assert [path.name for path in written] == [f"{name}.png" for name in ALL]
    assert all(path.parent == run / "figures" and is_picture(path) for path in written)
    assert caplog.records == []


def test_figures_can_go_to_another_folder(run, tmp_path):
    (run / "decisions.jsonl").unlink()
    written = draw(str(run), output=tmp_path / "a" / "b")
    assert {path.parent for path in written} == {tmp_path / "a" / "b"}
    assert not (run / "figures").exists()


@pytest.mark.slow
def test_drawing_twice_gives_the_same_pictures(run):
    first = {path: path.read_bytes() for path in draw(run)}
    assert first == {path: path.read_bytes() for path in draw(run)}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("missing", "left_out"),
    [
        ("epochs", ["accuracy_by_epoch"]),
        ("decisions", ["learning_rate", "learning_rate_detail", "actions"]),
        ("episodes", ["learning"]),
    ],
)
def test_a_figure_without_data_is_left_out_with_a_word_in_the_log(run, caplog, missing, left_out):
    (run / f"{missing}.jsonl").unlink()
    with caplog.at_level(logging.WARNING):
        written = [path.stem for path in draw(run)]
    assert written == [name for name in ALL if name not in left_out]
    assert [record.getMessage().split(".png")[0] for record in caplog.records] == left_out


@pytest.mark.slow
def test_a_run_that_was_only_trained_is_drawn(run):
    for path in run.glob("*.jsonl"):
        lines = [line for line in path.read_text().splitlines() if '"train"' in line]
        path.write_text("\n".join(lines))
    assert [path.stem for path in draw(run)] == ALL


@pytest.mark.slow
def test_a_run_with_a_single_record_of_each_kind_is_drawn(run):
    for path in run.glob("*.jsonl"):
        path.write_text(path.read_text().splitlines()[0])
    assert [path.stem for path in draw(run)] == ALL


@pytest.mark.slow
def test_lines_that_are_cut_are_skipped_and_counted(run, caplog):
    whole = len(read_records(run).epochs)
    path = run / "epochs.jsonl"
    path.write_bytes(path.read_bytes()[:-20] + b"\xff")
    (run / "episodes.jsonl").write_text('[1, 2]\n\n{"arm": "qan"}\n', encoding="utf-8")
    records = read_records(run)
    assert len(records.epochs) == whole - 1
    assert len(records.episodes) == 1
    assert records.num_unreadable == 2
    with caplog.at_level(logging.WARNING):
        draw(run)
    assert "2 lines of the logs" in caplog.text


def test_a_directory_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(NotADirectoryError, match=r"Received the run directory .*none.*Check"):
        draw(tmp_path / "none")


def test_a_directory_without_logs_is_refused(tmp_path):
    with pytest.raises(EmptyRunError, match=r"expected at least one record in decisions\.jsonl"):
        draw(tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_importing_the_package_does_not_load_matplotlib_and_drawing_leaves_pyplot_alone(run):
    code = (
        "import sys, keras_qan.plots\n"
        "print('matplotlib' in sys.modules)\n"
        f"keras_qan.plots.draw({str(run)!r})\n"
        "print('matplotlib.pyplot' in sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == ["False", "False"]


def script(*arguments):
    command = [sys.executable, str(SCRIPT), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_the_script_prints_where_the_figures_are(run, tmp_path):
    ran = script(f"--run={run}", f"--output={tmp_path / 'out'}")
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.splitlines() == [str(tmp_path / "out" / f"{name}.png") for name in ALL]


def test_the_script_says_in_one_line_what_is_wrong_with_the_directory(tmp_path):
    ran = script(f"--run={tmp_path / 'none'}")
    assert ran.returncode == 1
    assert ran.stderr.startswith("plot_run: Received the run directory")
    assert "Traceback" not in ran.stderr


def test_the_script_explains_its_flags():
    ran = script("--help")
    assert "--run" in ran.stdout
    assert "Directory of the run" in ran.stdout


@pytest.mark.slow
def test_a_run_that_measured_the_slope_ratio_gets_its_figure(run):
    path = run / "decisions.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    for number, line in enumerate(lines):
        line |= {"slope_ratio": 0.5 - 0.01 * (number % 60), "slope_error": 0.1}
    lines[0]["slope_ratio"] = None
    path.write_text("\n".join(map(json.dumps, lines)) + "\n")
    draw(run)
    assert is_picture(run / "figures" / "slope_ratio.png")
