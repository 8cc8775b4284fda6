"""The grid of widths, and its script."""

import pytest
from helpers.scripts import Script

from keras_qan.experiments.growth import GrowthExperiment, parse_widths


def test_widths_are_pairs_and_others_are_refused():
    assert parse_widths(("100-100", "150-20")) == [(100, 100), (150, 20)]
    for wrong in ("100", "a-b", "10-", "0-5", "1-2-3"):
        with pytest.raises(ValueError, match=r"Write for example --widths=100-100"):
            GrowthExperiment(widths=(wrong,))


@pytest.mark.slow
def test_growing_keeps_the_loss_and_the_flags_repeat_the_run(tmp_path):
    first = ["--flagfile=configs/digits_grow_grid.flags", "--scale=0.05", "--seeds=1"]
    first.append("--widths=20-20,30-20,30-30")
    tables = []
    for flags, folder in (
        (first, "one"),
        ([f"--flagfile={tmp_path / 'one' / 'flags.txt'}"], "two"),
    ):
        place = f"--directory={tmp_path / folder}"
        script = Script("grow_grid", *flags, place, output=tmp_path / "output.txt")
        assert script.wait() == 0, script.output
        assert "spread over seeds" in script.output
        tables.append((tmp_path / folder / "grid.csv").read_text())
    assert tables[0] == tables[1]
    losses = [float(line.split(",")[3]) for line in tables[0].splitlines()[1:]]
    assert len(losses) == 3
    assert max(losses) - min(losses) <= 1e-5


def test_a_table_is_not_written_over(tmp_path):
    (tmp_path / "grid.csv").write_text("mine")
    with pytest.raises(FileExistsError, match="another --directory"):
        GrowthExperiment(directory=str(tmp_path)).run()
    assert [path.name for path in tmp_path.iterdir()] == ["grid.csv"]
