"""The player's side of AI2-THOR's two wire protocols (ai2thor 5.0, ``fifo_server.py`` and ``wsgi_server.py``)."""

import http.client
import json
import os
import struct
from collections.abc import Mapping
from typing import Any

import msgpack

METADATA, ACTION, METADATA_PATCH, END = 1, 2, 11, 255
IMAGE_TYPES = {
    "image": 4,
    "image_depth": 5,
    "image_ids": 9,
    "image-thirdParty-camera": 10,
    "image_thirdParty_depth": 12,
    "image_thirdParty_image_ids": 14,
}
PATCH_KEYS = ("lastAction", "lastActionSuccess", "errorMessage", "errorCode", "actionReturn", "agentId")
BOUNDARY = "----thorplayer7MA4YWxkTrZu0gW"
Images = list[tuple[str, bytes]]


def connect(environment: Mapping[str, str]) -> Any:
    """The wire that the client asks for; its ``exchange`` raises ``EOFError`` when the client has gone."""
    return Fifo(environment) if environment["AI2THOR_SERVER_TYPE"] == "FIFO" else Http(environment)


def whole(metadata: dict[str, Any], sequence_id: int) -> dict[str, Any]:
    """The message of a single agent."""
    cameras = metadata["thirdPartyCameras"] or []
    return {"agents": [metadata], "thirdPartyCameras": cameras, "activeAgentId": 0, "sequenceId": sequence_id}


class Fifo:
    """Two named pipes; a message is fields of (type u8, length u32 big-endian, body), closed by an empty field 255."""

    patches = True

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._to_client = open(environment["AI2THOR_FIFO_SERVER_PIPE_PATH"], "wb")  # noqa: SIM115
        self._client_path = environment["AI2THOR_FIFO_CLIENT_PIPE_PATH"]
        self._from_client: Any = None
        self._wrong_sequence = False

    def _field(self, kind: int, body: bytes) -> None:
        self._to_client.write(struct.pack("!BI", kind, len(body)) + body)

    def exchange(self, metadata: dict[str, Any], images: Images, sequence_id: int, fast: bool) -> dict[str, Any]:
        """Send the answer to an action and wait for the next one."""
        if fast:
            self._field(METADATA_PATCH, msgpack.packb({key: metadata[key] for key in PATCH_KEYS}))
        else:
            self._field(METADATA, msgpack.packb(whole(metadata, sequence_id + self._wrong_sequence)))
            for name, data in images:
                self._field(IMAGE_TYPES[name], data)
        self._field(END, b"")
        self._to_client.flush()
        if self._from_client is None:
            self._from_client = open(self._client_path, "rb")  # noqa: SIM115
        action: dict[str, Any] = {}
        while True:
            header = self._from_client.read(5)
            if len(header) < 5:
                raise EOFError
            kind, length = struct.unpack("!BI", header)
            if kind == END:
                return action
            assert kind == ACTION
            action = json.loads(self._from_client.read(length))

    def leave(self) -> None:
        self._to_client.close()

    def send_nonsense(self, kind: str) -> None:
        if kind == "unknown_field":
            self._field(77, b"hello")
        elif kind == "huge":
            self._to_client.write(struct.pack("!BI", METADATA, 0xFFFFFFFF))
        elif kind == "not_metadata":
            self._field(METADATA, b"\xc1\xc1\xc1")
        elif kind == "wrong_sequence":
            self._wrong_sequence = True
        self._to_client.flush()


class Http:
    """POSTs of multipart forms to /train; the response to each is the next action."""

    patches = False

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._token = environment["AI2THOR_CLIENT_TOKEN"]
        self._connection = http.client.HTTPConnection(environment["AI2THOR_HOST"], int(environment["AI2THOR_PORT"]))
        self._wrong_sequence = False

    def exchange(self, metadata: dict[str, Any], images: Images, sequence_id: int, fast: bool) -> dict[str, Any]:
        texts = {"metadata": json.dumps(whole(metadata, sequence_id + self._wrong_sequence)), "token": self._token}
        parts = [
            f'Content-Type: text/plain; charset="utf-8"\r\nContent-disposition: form-data; name="{name}"\r\n\r\n{text}'.encode()
            for name, text in texts.items()
        ]
        parts += [
            f"Content-Type: application/octet-stream\r\nContent-disposition: form-data; "
            f'name="{name}"; filename="{name}.dat"\r\n\r\n'.encode()
            + data
            for name, data in images
        ]
        mark = f"--{BOUNDARY}".encode()
        body = b"".join(mark + b"\r\n" + part + b"\r\n" for part in parts) + mark + b"--\r\n"
        self._post(body)
        response = self._connection.getresponse()
        answer = response.read()
        if response.status != 200:
            os._exit(3)
        action: dict[str, Any] = json.loads(answer)
        if not action:
            raise EOFError
        return action

    def _post(self, body: bytes) -> None:
        headers = {"Content-Type": f'multipart/form-data; boundary="{BOUNDARY}"'}
        self._connection.request("POST", "/train", body, headers)

    def leave(self) -> None:
        self._connection.close()

    def send_nonsense(self, kind: str) -> None:
        if kind == "wrong_sequence":
            self._wrong_sequence = True
        else:
            self._post(b"nonsense")
            self._connection.getresponse().read()
