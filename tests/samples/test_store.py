"""Shards: what is written is read back, by index, by stream, by other processes and by Hugging Face datasets."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import pickle
import resource
import signal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ipt.common.files import MANIFEST, CorruptFile, read_json, write_json
from ipt.common.images import encode_image
from ipt.common.seeding import generator
from ipt.samples import store
from ipt.samples.sample import SampleImage, SpatialSample
from ipt.samples.store import SampleReader, seal, write_shard, write_shards
from ipt.samples.views import in_memory
from tests.deadly import forked
from tests.synthetic import make_sample, picture
from tests.waiting import HANGS

SAMPLES = [make_sample(number) for number in range(40)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_shards(tmp_path, "train", SAMPLES, max_rows=18)
    seal(tmp_path, {"command": "test"})
    return tmp_path


def test_a_folder_reads_back_by_index_by_stream_and_by_column(folder: Path) -> None:
    reader = SampleReader(folder, verify=True)
    assert len(reader) == 40
    assert list(reader) == SAMPLES
    order = generator(0, "order").permutation(40)
    assert [reader[int(index)] for index in order] == [SAMPLES[index] for index in order]
    assert reader[-1] == SAMPLES[-1]
    assert reader.ids() == [sample.id for sample in SAMPLES]
    with pytest.raises(IndexError, match="40 samples"):
        reader[40]
    with pytest.raises(ValueError, match="no column 'colour'"):
        reader.column("colour")


def test_a_dataset_in_memory_is_the_same_and_is_read_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held = in_memory(folder)
    monkeypatch.setattr(store.SampleReader, "_read", None)
    assert [held[row] for row in range(len(held))] == list(held) == SAMPLES
    assert held.ids() == [sample.id for sample in SAMPLES] and held.where(20) == SampleReader(folder).where(20)
    assert in_memory(folder) is held


def test_a_dataset_in_memory_can_be_sent_to_a_worker(folder: Path) -> None:
    held = in_memory(folder)
    sent = pickle.loads(pickle.dumps(held))
    assert [sent[index] for index in range(len(sent))] == list(held)


def test_shards_are_bounded_by_rows_and_bytes_and_have_small_row_groups(tmp_path: Path) -> None:
    row_bytes = sum(len(image.data) for image in (*SAMPLES[0].images, SAMPLES[0].imagination))
    by_rows = write_shards(tmp_path / "rows", "train", SAMPLES, max_rows=18)
    by_bytes = write_shards(tmp_path / "bytes", "train", SAMPLES, max_bytes=5 * row_bytes)
    assert [len(SampleReader(path)) for path in by_rows] == [18, 18, 4]
    assert len(by_bytes) >= 8 and sum(len(SampleReader(path)) for path in by_bytes) == 40
    metadata = pq.read_metadata(by_rows[0])
    assert [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)] == [16, 2]


def test_equal_samples_give_equal_files(tmp_path: Path) -> None:
    write_shard(tmp_path / "a.parquet", SAMPLES)
    write_shard(tmp_path / "b.parquet", iter(SAMPLES))
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()


def test_hugging_face_datasets_decode_every_picture(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    datasets = pytest.importorskip("datasets")
    cache = tmp_path_factory.mktemp("cache")
    rows = datasets.load_dataset("parquet", data_files=str(folder / "*.parquet"), split="train", cache_dir=str(cache))
    assert len(rows) == 40
    for row, sample in zip(rows, SAMPLES, strict=True):
        assert row["id"] == sample.id and row["provenance"]["scene_id"] == sample.provenance.scene_id
        assert np.array_equal(np.asarray(row["imagination"]), sample.imagination.pixels())
        for shown, image in zip(row["images"], sample.images, strict=True):
            assert np.array_equal(np.asarray(shown), image.pixels())
    rows.to_parquet(cache / "again.parquet")  # and what Hugging Face writes, we read
    assert list(SampleReader(cache / "again.parquet")) == SAMPLES


def read_all(reader: SampleReader, indices: list[int], results: multiprocessing.Queue) -> None:  # type: ignore[type-arg]
    results.put([reader[index] for index in indices])


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_workers_may_share_a_reader_that_is_already_in_use(folder: Path, method: str) -> None:
    reader = SampleReader(folder)
    assert reader[3] == SAMPLES[3]
    context = multiprocessing.get_context(method)
    results = context.Queue()
    indices = [30, 3, 17, 39, 0]
    workers = [context.Process(target=read_all, args=(reader, indices, results)) for _ in range(2)]
    for worker in workers:
        worker.start()
    for _ in workers:
        assert results.get(timeout=HANGS) == [SAMPLES[index] for index in indices]
    for worker in workers:
        worker.join()
    assert reader[20] == SAMPLES[20]


def test_a_pickled_reader_carries_no_open_file(folder: Path) -> None:
    reader = SampleReader(folder)
    fresh = len(pickle.dumps(reader))
    assert reader[5] == SAMPLES[5]
    assert len(pickle.dumps(reader)) == fresh
    assert pickle.loads(pickle.dumps(reader))[5] == SAMPLES[5]


def test_no_more_than_a_few_files_stay_open(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "OPEN_FILES", 1)
    reader = SampleReader(folder)
    assert [reader[index] for index in (0, 39, 1, 20)] == [SAMPLES[index] for index in (0, 39, 1, 20)]
    assert len(reader._files) == 1


def test_an_unsealed_folder_is_refused(tmp_path: Path) -> None:
    write_shard(tmp_path / "a.parquet", SAMPLES)
    with pytest.raises(FileNotFoundError, match="not a finished folder"):
        SampleReader(tmp_path)
    with pytest.raises(FileNotFoundError, match="no such folder or shard"):
        SampleReader(tmp_path / "b.parquet")


@pytest.mark.parametrize("rows", [None, ["train.parquet"], {"a.parquet": "2"}, {"a.parquet": -1}, {"b.parquet": 2}])
def test_a_manifest_without_numbers_of_rows_is_named(rows: object, tmp_path: Path) -> None:
    write_shard(tmp_path / "a.parquet", SAMPLES[:2])
    seal(tmp_path, {})
    write_json(tmp_path / MANIFEST, {**read_json(tmp_path / MANIFEST), "rows": rows})
    with pytest.raises(CorruptFile, match=rf"{tmp_path}.*(lists no rows|'rows\..*expected the number of rows)"):
        SampleReader(tmp_path)


def test_seal_wants_shards_and_distinct_ids(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no parquet shard"):
        seal(tmp_path, {})
    write_shard(tmp_path / "a.parquet", SAMPLES[:3])
    write_shard(tmp_path / "b.parquet", SAMPLES[2:4])
    with pytest.raises(ValueError, match=r"'sample-00002' is in .*a\.parquet and in .*b\.parquet"):
        seal(tmp_path, {})
    assert not (tmp_path / MANIFEST).exists()


def test_every_truncation_is_an_error_that_names_the_shard(tmp_path: Path) -> None:
    write_shard(tmp_path / "whole.parquet", SAMPLES[:20])
    data = (tmp_path / "whole.parquet").read_bytes()
    path = tmp_path / "cut.parquet"
    for length in generator(0, "cuts").integers(0, len(data), 40):
        path.write_bytes(data[:length])
        with pytest.raises(CorruptFile, match=r"cut\.parquet"):
            list(SampleReader(path))


def test_a_truncated_shard_of_a_sealed_folder_is_found_on_opening(folder: Path) -> None:
    shard = folder / "train-00001.parquet"
    os.truncate(shard, shard.stat().st_size - 1)
    with pytest.raises(CorruptFile, match="train-00001"):
        SampleReader(folder)


def test_a_flipped_picture_byte_is_found_and_located(folder: Path) -> None:
    shard = folder / "train-00000.parquet"
    data = bytearray(shard.read_bytes())
    data[data.index(SAMPLES[17].imagination.data) + 60] ^= 1
    shard.write_bytes(data)
    reader = SampleReader(folder)
    assert reader[3] == SAMPLES[3]
    with pytest.raises(CorruptFile, match=r"train-00000\.parquet, rows 16 to 17"):
        reader[16]
    with pytest.raises(CorruptFile, match="SHA-256"):
        SampleReader(folder, verify=True)


def test_a_row_that_is_no_sample_is_located(tmp_path: Path) -> None:
    records = [sample.to_record() for sample in SAMPLES[:20]]
    records[18]["answer"] = "Z"
    records[19]["imagination"] = {"bytes": None, "path": "https://example.org/x.png"}
    path = tmp_path / "a.parquet"
    pq.write_table(pa.Table.from_pylist(records, store.SCHEMA), path, row_group_size=16)
    reader = SampleReader(path)
    assert reader[17] == SAMPLES[17]
    with pytest.raises(CorruptFile, match=r"a\.parquet, row 18: sample 'sample-00018', field 'answer'"):
        reader[18]
    with pytest.raises(CorruptFile, match=r"row 19: .*'imagination': images must be embedded"):
        reader[19]


def test_other_columns_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"id": [1], "url": ["http://example.org"]}), path)
    with pytest.raises(CorruptFile, match=r"a\.parquet: missing, unknown or ill-typed columns .*id.*url"):
        SampleReader(path)


def test_oversized_cells_and_rows_are_refused_on_both_sides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    noise = generator(0, "noise").integers(0, 256, (64, 64, 3), dtype=np.uint8)
    large = make_sample(1, imagination=SampleImage(encode_image(noise), "bev"))
    path = tmp_path / "a.parquet"
    write_shard(path, [make_sample(0), large])
    monkeypatch.setattr(store, "MAX_CELL_BYTES", 10_000)
    assert SampleReader(path)[0] == make_sample(0)
    with pytest.raises(CorruptFile, match=r"a\.parquet, row 1, column 'imagination': 12,\d+ bytes"):
        SampleReader(path)[1]
    with pytest.raises(ValueError, match="row 0, column 'imagination'"):
        write_shard(tmp_path / "b.parquet", [large])
    monkeypatch.setattr(store, "MAX_CELL_BYTES", 20_000)
    monkeypatch.setattr(store, "MAX_ROW_BYTES", 10_000)
    with pytest.raises(CorruptFile, match="row 1: "):
        SampleReader(path)[1]
    monkeypatch.setattr(store, "MAX_ROW_GROUP_BYTES", 10_000)
    with pytest.raises(CorruptFile, match="rows 0 to 1: a row group of"):
        SampleReader(path)[0]
    assert not (tmp_path / "b.parquet").exists()


def test_a_failing_producer_leaves_no_half_shard(tmp_path: Path) -> None:
    def broken() -> object:
        yield from SAMPLES[:30]
        raise RuntimeError("the simulator went away")

    with pytest.raises(RuntimeError, match="went away"):
        write_shards(tmp_path, "train", broken(), max_rows=18)  # type: ignore[arg-type]
    assert [path.name for path in tmp_path.iterdir()] == ["train-00000.parquet"]
    assert list(SampleReader(tmp_path / "train-00000.parquet")) == SAMPLES[:18]


@pytest.mark.parametrize("writes", range(1, 9))
def test_a_killed_writer_leaves_whole_shards_only(writes: int, tmp_path: Path) -> None:
    """A shard is synced before it has its name, and its folder afterwards."""
    samples = [make_sample(number) for number in range(100)]
    assert forked(lambda: write_shards(tmp_path, "train", samples, max_rows=20), writes) == -signal.SIGKILL
    shards = sorted(tmp_path.glob("*.parquet"))
    assert len(shards) == writes // 2
    assert [sample for path in shards for sample in SampleReader(path)] == samples[: 20 * len(shards)]


def outcome_of_writing(folder: Path, prepare: str, results: multiprocessing.Queue) -> None:  # type: ignore[type-arg]
    """In a child process: take a right or the room away, write two shards, report the error."""
    if prepare == "limit":
        resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))
    elif os.geteuid() == 0:
        os.seteuid(65534)  # a superuser may write to read-only folders
    pixels = generator(0, "noise").integers(0, 256, (64, 64, 3), dtype=np.uint8)
    samples = [make_sample(0), *(make_sample(number, pixels) for number in range(1, 6))]
    try:
        for number, shard in enumerate((samples[:1], samples[1:])):
            write_shard(folder / f"train-{number}.parquet", shard)
    except OSError as error:
        results.put((error.errno, str(error)))
    else:
        results.put((0, "no error"))


def error_of_writing(folder: Path, prepare: str) -> tuple[int, str]:
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    child = context.Process(target=outcome_of_writing, args=(folder, prepare, results))
    child.start()
    code, message = results.get(timeout=HANGS)
    child.join()
    return code, message


def test_a_full_disk_is_a_clear_error_and_finished_shards_stay(tmp_path: Path) -> None:
    code, message = error_of_writing(tmp_path, "limit")
    assert code in (errno.EFBIG, errno.ENOSPC)
    assert "train-1.parquet" in message and "finished shards stay" in message
    assert [path.name for path in tmp_path.iterdir()] == ["train-0.parquet"]
    assert list(SampleReader(tmp_path / "train-0.parquet")) == [make_sample(0)]


def test_a_read_only_folder_is_a_clear_error(tmp_path: Path) -> None:
    for parent in (tmp_path, *tmp_path.parents[:2]):
        parent.chmod(0o755)
    folder = tmp_path / "locked"
    folder.mkdir(mode=0o555)
    code, message = error_of_writing(folder, "lock")
    assert code == errno.EACCES
    assert "train-0.parquet" in message and "writable folder" in message


def test_the_viewer_metadata_covers_every_column() -> None:
    features = json.loads(store.SCHEMA.metadata[b"huggingface"])["info"]["features"]
    assert set(features) == set(make_sample().to_record())
    assert features["images"] == [{"_type": "Image"}] and features["imagination"] == {"_type": "Image"}


def test_a_picture_survives_bit_for_bit(folder: Path) -> None:
    sample: SpatialSample = SampleReader(folder)[7]
    assert np.array_equal(sample.images[1].pixels(), picture(701))
