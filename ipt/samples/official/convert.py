"""A published dataset into our store, with the system prompts of its rows in ``prompts.json`` beside it."""

from __future__ import annotations

import hashlib
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, cast

from ipt.common.errors import UserError
from ipt.common.files import CorruptFile
from ipt.common.progress import tracked
from ipt.common.registry import unknown_name
from ipt.samples.official.interleaved import COLUMNS, Content, interleaved_sample, read_content
from ipt.samples.official.rows import Row, columns_of, count_rows, parquet_files, rows_of
from ipt.samples.official.viewer import read_viewer, viewer_task
from ipt.samples.prompts import write_prompts
from ipt.samples.sample import SPLITS, TASKS, SpatialSample, Split, Task
from ipt.samples.store import seal, write_shards

MAX_THOUGHTS = 32

Schema = Literal["viewer", "interleaved"]


@dataclass
class ConvertConfig:
    """Convert a published dataset into a folder of samples that training and evaluation read.

    ``data``: folder (or file) of an 'ipt' or evaluation variant in either schema. ``companions``: folders of other training
    variants of the same rows in the interleaved schema (answer-only, text CoT): their system prompts are taken over, and their
    reasoning, where image and question agree. ``schema``: viewer or interleaved, where a folder holds files of both.
    ``arrow``: PET's version with the direction drawn. ``verify=false`` reads only the headers of images.
    """

    task: str
    data: str
    output_dir: str
    split: str = "train"
    companions: list[str] = field(default_factory=list)
    schema: str = "auto"
    arrow: bool = False
    verify: bool = True


@dataclass
class Texts:
    """What the rows of all variants say besides the samples: system prompts and thoughts with their counts, and reasoning."""

    systems: dict[str, Counter[str]] = field(default_factory=dict)
    thoughts: Counter[str] = field(default_factory=Counter)
    rationales: dict[str, str] = field(default_factory=dict)

    def note(self, content: Content) -> None:
        """Take down what a row adds."""
        if content.system:
            self.systems.setdefault(content.mode, Counter())[content.system] += 1
        if content.thought:
            self.thoughts[content.thought] += 1
        if content.mode == "text_cot":
            self.rationales[content_key(content.inputs, content.question)] = content.rationale

    def prompts(self, task: Task) -> tuple[dict[str, str], dict[str, list[str]], list[str]]:
        """Systems and thoughts for ``prompts.json``, the most frequent first, and remarks on what was left out."""
        remarks = [
            f"{sum(counts.values()) - counts.most_common(1)[0][1]} rows of mode {mode} have other system prompts than the most "
            "frequent one, which is kept"
            for mode, counts in self.systems.items()
            if len(counts) > 1
        ]
        if len(self.thoughts) > MAX_THOUGHTS:
            remarks.append(f"of {len(self.thoughts)} different thoughts the {MAX_THOUGHTS} most frequent ones are kept")
        systems = {f"{task}/{mode}": counts.most_common(1)[0][0] for mode, counts in self.systems.items()}
        thoughts = [text for text, _ in self.thoughts.most_common(MAX_THOUGHTS)]
        return systems, {task: thoughts} if thoughts else {}, remarks


def content_key(inputs: Sequence[bytes], question: str) -> str:
    """Equal for rows of different variants that show the same images and ask the same."""
    digest = hashlib.sha256(question.encode())
    for data in inputs:
        digest.update(hashlib.sha256(data).digest())
    return digest.hexdigest()


def schema_of(path: Path, task: Task) -> Schema:
    """The schema of a file; ``CorruptFile`` where it is neither, or the viewer schema of another task."""
    columns = columns_of(path)
    if set(COLUMNS) <= set(columns):
        return "interleaved"
    found = viewer_task(columns)
    if found is None:
        raise CorruptFile(
            f"{path}: unknown schema with the columns {', '.join(columns)}; known are the interleaved one ({', '.join(COLUMNS)}) "
            "and the viewer ones of PET and MVC"
        )
    if found != task:
        raise CorruptFile(f"{path} holds rows of task '{found}', not of '{task}'")
    return "viewer"


def source_files(config: ConvertConfig, task: Task) -> tuple[Schema, list[Path]]:
    """The files to convert, all of one schema."""
    by_schema: dict[Schema, list[Path]] = {}
    for path in parquet_files(Path(config.data)):
        by_schema.setdefault(schema_of(path, task), []).append(path)
    if config.schema == "auto" and len(by_schema) > 1:
        raise UserError(
            f"{config.data} holds files of both schemas (the releases' converter writes its own beside the originals); choose "
            f"with schema=viewer or schema=interleaved: {', '.join(str(files[0]) for files in by_schema.values())}"
        )
    schema = next(iter(by_schema)) if config.schema == "auto" else cast(Schema, config.schema)
    if schema not in by_schema:
        raise UserError(f"{config.data} holds no file of schema '{schema}'; it holds: {', '.join(by_schema)}")
    return schema, by_schema[schema]


def convert(config: ConvertConfig) -> None:
    """Write shards, ``prompts.json`` and, last, the manifest. Raises ``ValueError`` naming what is wrong and where."""
    for name, value, valid in (("task", config.task, TASKS), ("split", config.split, SPLITS)):
        if value not in valid:
            raise UserError(unknown_name(name, value, valid))
    task, split, texts = cast(Task, config.task), cast(Split, config.split), Texts()
    for folder in config.companions:
        read_companion(Path(folder), texts)
    schema, files = source_files(config, task)
    rows = (row for path in files for row in rows_of(path, config.verify))
    shown = tracked(rows, f"converting {task}", count_rows(files))
    matched = Counter[bool]()

    def samples() -> Iterator[SpatialSample]:
        for number, row in enumerate(shown):
            sample = read_sample(row, schema, task, f"{task}-{split}-{number:06d}", split, config.arrow, texts)
            if texts.rationales and not sample.rationale:
                rationale = texts.rationales.get(
                    content_key([image.data for image in sample.images], sample.question), ""
                )
                matched[bool(rationale)] += 1
                sample = replace(sample, rationale=rationale)
            yield sample

    output = Path(config.output_dir)
    shards = write_shards(output, f"{task}-{split}", samples())
    systems, thoughts, remarks = texts.prompts(task)
    if matched:
        remarks.append(f"{matched[False]} of {matched.total()} samples have no reasoning among the companions")
    if systems:
        write_prompts(output, systems, thoughts)
    else:
        remarks.append(
            "these rows hold no system prompts; profile 'release' needs some: name a folder of interleaved rows in companions="
        )
    seal(output, {"source": Path(config.data).name, "task": task, "schema": schema, "remarks": remarks})
    for remark in remarks:
        print(f"note: {remark}", file=sys.stderr)
    print(f"{len(shards)} shards in {output}")


def read_sample(
    row: Row, schema: Schema, task: Task, sample_id: str, split: Split, arrow: bool, texts: Texts
) -> SpatialSample:
    if schema == "viewer":
        return read_viewer(row, task, sample_id, split, arrow)
    content = read_content(row)
    texts.note(content)
    return interleaved_sample(row, content, task, sample_id, split)


def read_companion(folder: Path, texts: Texts) -> None:
    """System prompts and reasoning of another variant."""
    files = parquet_files(folder)
    for path in files:
        if not set(COLUMNS) <= set(columns_of(path)):
            raise CorruptFile(f"{path}: companions are read in the interleaved schema ({', '.join(COLUMNS)}) only")
    rows = (row for path in files for row in rows_of(path, decode=False))
    for row in tracked(rows, f"reading {folder.name}", count_rows(files)):
        texts.note(read_content(row))
