"""Nothing is lost: every row of the torture in its short form, and the table of the long one."""

import json

import pytest

from tests.torture import Row, __main__, collection, rows


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.parametrize(("row", "often"), [pytest.param(row, few, id=row.__name__) for row, few, _ in rows.ROWS])
def test_nothing_is_lost_and_nothing_is_wrong_after(row, often, tmp_path, capsys):
    found = row(often, tmp_path)
    with capsys.disabled():
        print(f"\n{found.name}: {found.tried} tried, {found.failed} failed ({found.note})")
    assert found.tried >= often and found.failed == 0, found


def test_a_full_disk_can_be_pretended_where_none_may_be_mounted(tmp_path, monkeypatch):
    monkeypatch.setattr(collection, "may_mount", lambda folder: False)
    assert collection.full_disk(2, tmp_path).failed == 0


def test_an_episode_that_is_lost_is_counted(tmp_path, monkeypatch):
    sound = collection.undisturbed
    monkeypatch.setattr(collection, "undisturbed", lambda folder: sound(folder) | {"episode_000012.h5": b"lost"})
    assert collection.full_disk(1, tmp_path).failed == 1


def nothing_lost(tried, folder) -> Row:
    return Row("pulled the plug", tried, 0, f"{folder.is_dir()}")


def something_lost(tried, folder) -> Row:
    return Row("pulled the plug", tried, 2, f"{folder.is_dir()}")


@pytest.mark.parametrize(("row", "failed", "status"), [(nothing_lost, 0, 0), (something_lost, 2, 1)])
def test_the_long_torture_prints_a_table_writes_its_rows_and_fails_when_one_does(
    tmp_path, capsys, monkeypatch, row, failed, status
):
    monkeypatch.setattr(__main__, "ROWS", ((row, 1, 1000),))
    assert __main__.main(tmp_path / "torture.json") == status
    assert f"| pulled the plug | 1,000 | {failed} | True |" in capsys.readouterr().out
    expected = [{"name": "pulled the plug", "tried": 1000, "failed": failed, "note": "True"}]
    assert json.loads((tmp_path / "torture.json").read_text()) == expected
