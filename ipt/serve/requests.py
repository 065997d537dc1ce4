"""A chat completion request, read and checked: what is asked of the model, or why it is refused in the API's own words.

Pictures come as data URLs; nothing is fetched and no path is opened. Of the conversation, the one message of the user counts: it
is taken apart into question, options and pictures, and put in the prompt that the model was trained with, so system messages of
callers have no effect.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ipt.common.errors import UserError
from ipt.common.images import BadImage, decode_image
from ipt.common.registry import unknown_name
from ipt.common.seeding import check_seed
from ipt.evaluation.adapters.harness import joined, options_of
from ipt.inference.checkpoint import Checkpoint
from ipt.inference.own import own_question
from ipt.inference.settings import TextSettings
from ipt.samples.sample import SpatialSample

MAX_BODY, MAX_PICTURES, MAX_BYTES, MAX_PIXELS, MAX_TEXT = 48 * 2**20, 8, 8 * 2**20, 16_000_000, 20_000
#: Ways to answer that need nothing but the question; ``draw`` gives the picture and no answer.
MODES = ("answer_only", "imagination", "free", "selective", "draw")
FIELDS = ("model", "messages", "mode", "task", "seed", "temperature", "max_tokens", "max_completion_tokens")
#: Fields of the API that ask for nothing with these values, and for what is not offered with others.
NEUTRAL: Mapping[str, tuple[Any, ...]] = {
    "n": (1,),
    "stream": (False,),
    "top_p": (1,),
    "frequency_penalty": (0,),
    "presence_penalty": (0,),
}
#: Fields that say something about the caller, not about the answer.
ABOUT_CALLERS = ("user", "metadata", "store", "safety_identifier")


class Refused(UserError):
    """A request that is not answered: ``status`` of HTTP, ``kind`` and ``code`` of OpenAI's errors, the ``field`` at fault."""

    def __init__(
        self,
        message: str,
        field: str | None = None,
        status: int = 400,
        kind: str = "invalid_request_error",
        code: str | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.body = status, {"error": {"message": message, "type": kind, "param": field, "code": code}}


@dataclass(frozen=True)
class Job:
    """A question, and how it is to be answered: jobs of equal ``plan`` are answered together."""

    sample: SpatialSample
    mode: str
    text: TextSettings
    seed: int

    @property
    def plan(self) -> tuple[str, TextSettings, int]:
        return self.mode, self.text, self.seed


@dataclass(frozen=True)
class Desk:
    """What requests are read against: the model under its ``name``, the ``mode`` and ``seed`` of those that name none."""

    checkpoint: Checkpoint
    name: str
    mode: str
    seed: int

    def read(self, body: bytes) -> Job:
        """A request's body as a job. Raises `Refused`."""
        try:
            values = json.loads(body)
        except ValueError as error:
            raise Refused(f"the body is no JSON: {error}") from error
        if not isinstance(values, dict):
            raise Refused("the body must be a JSON object")
        given = {key: value for key, value in values.items() if value is not None and key not in ABOUT_CALLERS}
        self._check_fields(given)
        mode, task = self._one_of(given, "mode", MODES, self.mode), self._one_of(given, "task", self._tasks, None)
        seed, text = given.get("seed", self.seed), text_settings(given)
        if isinstance(seed, bool) or not isinstance(seed, int):
            raise Refused(f"seed must be a whole number, got {seed!r}", "seed")
        try:
            check_seed(seed)
            content = content_of(given["messages"])
            words, pictures = joined(content)
            if mode == "draw":
                sample = own_question(self.checkpoint, pictures, words, (), task)
            else:
                question, choices = options_of(words)
                sample = own_question(self.checkpoint, pictures, question, choices, task)
        except Refused:
            raise
        except UserError as error:
            raise Refused(str(error), "seed" if "seed" in str(error) else "messages") from error
        return Job(sample, mode, text, seed)

    @property
    def _tasks(self) -> tuple[str, ...]:
        return tuple(self.checkpoint.recipe.sequence.resolutions)

    def _check_fields(self, given: Mapping[str, Any]) -> None:
        for name, value in given.items():
            if name in NEUTRAL and value not in NEUTRAL[name]:
                raise Refused(f"{name}={json.dumps(value)} is not offered here", name)
            if name not in NEUTRAL and name not in FIELDS:
                raise Refused(unknown_name("field", name, (*FIELDS, *NEUTRAL)), name)
        for name in ("model", "messages"):
            if name not in given:
                raise Refused(f"the field {name} is missing", name)
        if given["model"] != self.name:
            raise Refused(
                f"there is no model {given['model']!r} here, only '{self.name}'", "model", 404, code="model_not_found"
            )

    def _one_of(self, given: Mapping[str, Any], name: str, valid: tuple[str, ...], default: Any) -> Any:
        value = given.get(name, default)
        if value is not default and value not in valid:
            raise Refused(unknown_name(name, str(value), valid), name)
        return value


def text_settings(given: Mapping[str, Any]) -> TextSettings:
    """How text is written, where the request says so. Raises `Refused`."""
    most = given.get("max_completion_tokens", given.get("max_tokens"))
    temperature = given.get("temperature")
    for name, value, kind in (("max_tokens", most, int), ("temperature", temperature, (int, float))):
        if value is not None and (isinstance(value, bool) or not isinstance(value, kind)):
            raise Refused(f"{name} must be a number, got {value!r}", name)
    try:
        return TextSettings(most, None if temperature is None else float(temperature))
    except UserError as error:
        raise Refused(str(error), "max_tokens" if "max_tokens" in str(error) else "temperature") from error


def content_of(messages: Any) -> list[str | bytes]:
    """Texts and encoded pictures of the one message of the user, in order. Raises `Refused`."""
    if not isinstance(messages, list) or not all(isinstance(each, dict) for each in messages):
        raise Refused("messages must be a list of {role, content}", "messages")
    roles = [each.get("role") for each in messages]
    asked = [each for each in messages if each.get("role") == "user"]
    if len(asked) != 1 or not set(roles) <= {"user", "system", "developer"}:
        raise Refused(
            f"one question is answered at a time: one message of the user, beside system messages; got the roles {roles}",
            "messages",
        )
    content = asked[0].get("content")
    parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
    if not isinstance(parts, list):
        raise Refused("the content of a message must be a text or a list of parts", "messages")
    found = [part_of(part, number) for number, part in enumerate(parts, start=1)]
    pictures = sum(isinstance(part, bytes) for part in found)
    if not 1 <= pictures <= MAX_PICTURES:
        raise Refused(f"a question needs 1 to {MAX_PICTURES} pictures, got {pictures}", "messages")
    if sum(len(part) for part in found if isinstance(part, str)) > MAX_TEXT:
        raise Refused(f"a question may have {MAX_TEXT:,} letters at most", "messages")
    return found


def part_of(part: Any, number: int) -> str | bytes:
    """A text, or an encoded picture that can be opened. Raises `Refused`."""
    kind = part.get("type") if isinstance(part, dict) else None
    if kind == "text" and isinstance(part.get("text"), str):
        return str(part["text"])
    if kind != "image_url":
        raise Refused(f"part {number}: must be of type text or image_url, got {kind!r}", "messages")
    link = part.get("image_url")
    url = link.get("url") if isinstance(link, dict) else link
    head, comma, data = url.partition(",") if isinstance(url, str) else ("", "", "")
    if not (comma and head.startswith("data:image/") and head.endswith(";base64")):
        raise Refused(
            f"part {number}: pictures come as data URLs (data:image/png;base64,...); nothing is fetched from elsewhere",
            "messages",
        )
    if len(data) > MAX_BYTES * 4 / 3 + 4:
        raise Refused(f"part {number}: a picture may have {MAX_BYTES:,} bytes at most", "messages", 413)
    try:
        picture = base64.b64decode(data, validate=True)
        decode_image(picture, f"part {number}", MAX_PIXELS)
    except binascii.Error as error:
        raise Refused(f"part {number}: the picture is no base64 ({error})", "messages") from error
    except BadImage as error:
        raise Refused(str(error), "messages") from error
    return picture
