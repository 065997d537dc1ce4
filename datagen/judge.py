"""An optional second opinion: a vision-language model answers short questions about the pictures of each sample.

As in the paper's TIFA-style filter (section 2.1 of its supplement): is the answer visible in the imagination, is a
distractor visible there, is the question answered rightly with the imagination at hand. Each question is put several
times; two equal replies settle it, otherwise the majority of all rounds does. Any OpenAI-compatible endpoint serves.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from datagen.language import with_article
from ipt.common import cli
from ipt.common.endpoint import Endpoint, EndpointSettings, Reply, Usage
from ipt.common.files import read_manifest, write_json
from ipt.samples.sample import SampleImage, SpatialSample
from ipt.samples.store import SampleReader, seal, write_shards

YES_NO = ("yes", "no")
EARLY_EXIT = 2
WORD = re.compile(r"[A-Za-z]+")
#: A capital that stands alone and is no article: what follows "A" is a stop, a verb of judging, or nothing.
LETTER = re.compile(r"\b(?!A\s+(?!is\b|because\b|as\b|since\b|or\b|and\b|would\b|seems\b)[a-z])[A-Z]\b(?!')")


@dataclass(frozen=True, slots=True)
class Probe:
    """A question about pictures with the replies that count and the one that speaks for the sample, or, where it is not
    ``wanted``, against it."""

    name: str
    text: str
    images: tuple[SampleImage, ...]
    replies: tuple[str, ...]
    expected: str
    wanted: bool = True

    @property
    def content(self) -> list[str | bytes]:
        """What is sent."""
        return [*(image.data for image in self.images), self.text]


@dataclass(frozen=True, slots=True)
class Verdict:
    """The outcome of a probe: votes in order (None for an unusable reply) and the majority, None where there is none; tokens
    that were paid for, not those of replies from the cache."""

    sample_id: str
    probe: str
    expected: str
    votes: tuple[str | None, ...]
    majority: str | None
    prompt_tokens: int
    completion_tokens: int
    wanted: bool = True

    @property
    def passed(self) -> bool:
        return (self.majority == self.expected) == self.wanted


class Model(Protocol):
    """What answers texts and encoded pictures (`ipt.common.endpoint.Endpoint`); ``attempt`` tells repetitions apart."""

    def ask(self, content: Sequence[str | bytes], attempt: int) -> Reply: ...


def probes(sample: SpatialSample, blind: bool = False) -> Iterator[Probe]:
    """The questions that a good sample of its task passes; of one without choices, whether its picture can be told to be right.
    ``blind``: one more, which it passes if it cannot be answered without the imagination; a judge that guesses is right by
    chance, and such samples are lost as well, as in the paper."""
    seen = (sample.imagination,)
    if not sample.choices:
        yield Probe("drawn_as_told", as_told(sample.question), (*sample.images, *seen), YES_NO, "yes")
        return
    if sample.task == "pt":
        yield Probe("answer_visible", visible(sample.answer_text), seen, YES_NO, "yes")
        for choice in sample.choices:
            if choice != sample.answer_text:
                yield Probe("distractor_visible", visible(choice), seen, YES_NO, "no")
    elif sample.task == "pet":
        yield Probe("answer_visible", visible(with_article(sample.facts["object"]["name"])), seen, YES_NO, "yes")
    else:
        text = f"Does this view from above show exactly {sample.answer_text} of: {sample.facts['category']}? Reply yes or no."
        yield Probe("answer_visible", text, seen, YES_NO, "yes")
    options = "\n".join(f"{letter}. {choice}" for letter, choice in zip(sample.letters, sample.choices, strict=True))
    question = f"{sample.question}\n{options}\nReply with the letter of the right option only."
    told = "The last picture shows the view that the question is about; the others are what one is given."
    replies = tuple(letter.lower() for letter in sample.letters)
    yield Probe("answerable", f"{told}\n{question}", (*sample.images, *seen), replies, sample.answer.lower())
    if blind:
        yield Probe("blind", question, sample.images, replies, sample.answer.lower(), wanted=False)


def as_told(instruction: str) -> str:
    """The question whether a picture is what was to be drawn, and can be seen to be."""
    told = "The last picture was made for this task, the others are what one is given."
    return (
        f'{told} Task: "{instruction}" Do the pictures show that it was done right? Reply yes or no; no if that cannot be '
        "determined from them."
    )


def visible(thing: str) -> str:
    """The question whether a thing, with its article, is seen."""
    return f"{'Are' if thing.startswith('some ') else 'Is'} {thing} visible in this picture? Reply yes or no."


def parse_reply(text: str, replies: Sequence[str]) -> str | None:
    """The first word of a reply if it is one that counts, else the only one that counts, else None.

    A letter counts where it stands as one: "A." and "A is right" do, the article of "A chair" does not.
    """
    prose = len(WORD.findall(text)) > 1
    words = (LETTER if prose and max(map(len, replies)) == 1 else WORD).findall(text)
    found = [word.lower() for word in words if word.lower() in replies]
    if found and words[0].lower() == found[0] and words[0] == WORD.findall(text)[0]:
        return found[0]
    return found[0] if len(set(found)) == 1 else None


def vote(sample_id: str, probe: Probe, model: Model, rounds: int) -> Verdict:
    """Ask up to ``rounds`` times, stop after two if they agree; the majority needs more than half of the votes cast."""
    votes: list[str | None] = []
    prompt_tokens = completion_tokens = 0
    for round_number in range(rounds):
        reply = model.ask(probe.content, round_number)
        if not reply.cached:
            prompt_tokens += reply.prompt_tokens
            completion_tokens += reply.completion_tokens
        votes.append(parse_reply(reply.text, probe.replies))
        if len(votes) == EARLY_EXIT and len(set(votes)) == 1:
            break
    best, count = Counter(votes).most_common(1)[0]
    majority = best if 2 * count > len(votes) else None
    return Verdict(
        sample_id, probe.name, probe.expected, tuple(votes), majority, prompt_tokens, completion_tokens, probe.wanted
    )


def judge(
    samples: Iterable[SpatialSample], model: Model, rounds: int = 3, workers: int = 8, blind: bool = False
) -> dict[str, Any]:
    """Put every probe of every sample; returns JSON values: pass rates by probe, samples that fail and why, tokens, verdicts.

    ``ValueError`` for fewer than one round. A request that still fails after all retries raises ``EndpointDown``; what was
    answered so far is in the cache, so the same command goes on from there.
    """
    if rounds < 1:
        raise ValueError(f"a vote needs at least one round, got rounds={rounds}")
    verdicts: list[Verdict] = []
    judged = 0
    with ThreadPoolExecutor(workers) as pool:
        for sample in samples:  # one sample at a time: pictures of a whole set do not fit in memory
            judged += 1
            verdicts += pool.map(lambda probe, name=sample.id: vote(name, probe, model, rounds), probes(sample, blind))
    passed, asked = Counter[str](), Counter(verdict.probe for verdict in verdicts)
    failing: dict[str, set[str]] = {}
    for verdict in verdicts:
        passed[verdict.probe] += verdict.passed
        if not verdict.passed:
            failing.setdefault(verdict.sample_id, set()).add(verdict.probe)
    return {
        "samples": judged,
        "kept": judged - len(failing),
        "failing": {name: sorted(reasons) for name, reasons in sorted(failing.items())},
        "probes": {name: {"asked": count, "passed": passed[name]} for name, count in sorted(asked.items())},
        "prompt_tokens": sum(verdict.prompt_tokens for verdict in verdicts),
        "completion_tokens": sum(verdict.completion_tokens for verdict in verdicts),
        "verdicts": [{**asdict(verdict), "passed": verdict.passed} for verdict in verdicts],
    }


def forecast(samples: Iterable[SpatialSample], model: Endpoint, rounds: int, blind: bool) -> tuple[Usage, Usage]:
    """What is still to be asked and paid, if all replies agree and if none do; replies in the cache are free."""
    least, most = Usage(), Usage()
    for sample in samples:
        for probe in probes(sample, blind):
            cost = model.expected(probe.content)
            for number in range(rounds):
                if not model.known(probe.content, number):
                    most += cost
                    least = least + cost if number < EARLY_EXIT else least
    return least, most


@dataclass(frozen=True, kw_only=True)
class JudgeConfig(EndpointSettings):
    """Judge data, a sealed folder of samples or a shard; judge.json and the cache of replies go to output_dir.

    blind: drop what is answered without the imagination, too. kept: a folder for the samples that pass everything. dry_run:
    print what the requests would cost, send none. model is the name under which the endpoint serves it, base_url any
    OpenAI-compatible endpoint such as http://127.0.0.1:8000/v1 (default: OpenAI's own); request.KEY=VALUE: more fields of the
    requests. Prices are per million tokens. budget: at most so much for all replies in the cache together.
    """

    data: str
    output_dir: str
    rounds: int = 3
    blind: bool = False
    kept: str = ""
    dry_run: bool = False


def main(config: JudgeConfig) -> None:
    """Judge, write judge.json, print pass rates, tokens and cost."""
    output = Path(config.output_dir)
    model, reader = config.open(output / "cache"), SampleReader(config.data)
    if config.dry_run:
        for name, usage in zip(
            ("at least", "at most"), forecast(reader, model, config.rounds, config.blind), strict=True
        ):
            cost = usage.cost(config.price_in, config.price_out)
            print(
                f"{name} {usage.requests} requests, {usage.prompt_tokens:,} + {usage.completion_tokens:,} tokens, cost {cost:.2f}"
            )
        return
    report = judge(reader, model, config.rounds, config.workers, config.blind)
    asked = Usage(0, report["prompt_tokens"], report["completion_tokens"])
    report["cost"] = asked.cost(config.price_in, config.price_out)
    write_json(output / "judge.json", report)
    if config.kept:
        folder = Path(config.kept)
        write_shards(folder, "kept", (sample for sample in reader if sample.id not in report["failing"]))
        licences = read_manifest(Path(config.data)).get("licences", []) if Path(config.data).is_dir() else []
        about = {"judge": config.model, "data_sha256": reader.digest(), "licences": licences}
        seal(folder, {**about, "kept": report["kept"], "samples": report["samples"]})
    for name, row in report["probes"].items():
        print(f"{name}: {row['passed']} of {row['asked']} as expected")
    tokens = f"{report['prompt_tokens']:,} + {report['completion_tokens']:,} tokens, cost {report['cost']:.2f}"
    print(f"{report['kept']} of {report['samples']} samples pass; {tokens}")


if __name__ == "__main__":
    cli.run(JudgeConfig, main)
