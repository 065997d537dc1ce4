"""The playground without a browser: what its page calls, in simulated rooms, with a model that draws and one that answers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ipt.app.__main__ import AppConfig, make_game
from ipt.app.answers import answer_table, picture_row
from ipt.app.game import GRID, MAX_BYTES, MAX_PICTURES, Game, Play
from ipt.app.player import EDITED, WAYS, Drawn, Player
from ipt.app.simulator import Scenario, Simulator
from ipt.common.errors import UserError
from ipt.common.images import BadImage, decode_image, encode_image
from ipt.inference.drawing import only_drawn
from ipt.inference.engine import Engine
from ipt.inference.settings import DrawSettings
from tests.imagination.examples import noise_picture
from tests.inference import toy
from tests.inference.test_engine import assert_same

DRAW = DrawSettings(timesteps=4)
ROOMS = ("backend=blocks", "image_size=32", "task.plain=true")


@pytest.fixture(scope="module")
def simulator() -> Iterator[Simulator]:
    made = Simulator(ROOMS)
    yield made
    made.close()


@pytest.fixture(scope="module")
def game(simulator: Simulator) -> Game:
    """With a model that was trained to answer from pictures that it draws."""
    return Game(Player(toy.checkpoint(), DRAW), {"blocks": simulator})


@pytest.fixture(scope="module")
def asked() -> Play:
    """A question that the toy knows by heart; it draws nothing for others."""
    known = toy.SAMPLES[0]
    scenario = Scenario(only_drawn(known), (known,), known.images[0].data, (), known.imagination.data)
    return Play("pet", "blocks", 0, picture=known.images[0].data, scenario=scenario)


@pytest.fixture(scope="module")
def clicked(game: Game) -> Play:
    """After a click that a question can be asked about."""
    for scene in range(4):
        entered = game.enter("pet", "blocks", scene)
        for at in GRID:
            play = game.click(entered, at)
            if play.scenario is not None and play.scenario.questions:
                return play
    raise AssertionError("no place of four scenes can be asked about")


def finished(game: Game, play: Play, seed: int = 0) -> tuple[list[Drawn], Play]:
    *steps, last = game.imagine(play, seed)
    assert isinstance(last, Play) and all(isinstance(step, Drawn) for step in steps)
    return steps, last  # type: ignore[return-value]


def test_a_click_gives_a_question_and_another_begins_anew(game: Game, clicked: Play) -> None:
    asked = clicked
    assert asked.message.startswith("Now let the model imagine") and len(asked.clicks) == 1
    refused = game.click(asked, (0.5, 0.01))
    assert refused.message == "That is not the floor; click on the floor where you want to go."
    assert refused.scenario is None and refused.clicks == ()
    other = game.turn(asked, "right")
    assert asked.scenario is not None and other.scenario is not None and other.scenario.truth != asked.scenario.truth
    assert game.clear(asked).scenario is None
    with pytest.raises(UserError, match="Click on the floor"):
        _ = game.clear(asked).sample


def test_the_picture_is_seen_while_it_is_drawn_and_then_answered_from(game: Game, asked: Play) -> None:
    """Answers are those of the engine of infer.py, in every way that it has."""
    steps, done = finished(game, asked)
    assert [step.step for step in steps] == [1, 2, 3] and len({step.picture for step in steps}) == 3
    assert done.imagined is not None and done.imagined.picture == steps[-1].picture
    assert list(done.answers) == list(WAYS)
    mode = game.player.mode
    (own,) = Engine(toy.checkpoint(), mode, 0, 1).answer([asked.sample])
    assert own.images[0].data == done.imagined.picture
    assert_same({"x": done.answers["imagination"]}, {"x": own.prediction})
    for name in ("answer_only", "gt_imagination"):
        (other,) = Engine(toy.checkpoint(), replace(mode, name=name), 0, 1).answer([asked.sample])
        assert_same({"x": done.answers[name]}, {"x": other.prediction})
    assert done.answers["wrong_imagination"].probabilities != done.answers["gt_imagination"].probabilities
    _, again = finished(game, asked, 1)
    assert again.imagined is not None and again.imagined.picture != done.imagined.picture and again.seed == 1


def test_what_was_imagined_can_be_changed_and_asked_from_again(game: Game, asked: Play) -> None:
    _, done = finished(game, asked)
    assert done.imagined is not None
    drawn = decode_image(done.imagined.picture)
    assert (decode_image(game.change(done, "mirror")) == drawn[:, ::-1]).all()
    pictures = {arm: game.change(done, arm) for arm in ("mirror", "noise", "blur:2", "other", "truth")}
    assert len(set(pictures.values())) == 5
    same = game.ask_again(done, done.imagined.picture)
    assert same.answers[EDITED].probabilities == pytest.approx(done.answers["imagination"].probabilities, abs=1e-5)
    true = game.ask_again(done, pictures["truth"])
    assert true.answers[EDITED].probabilities == pytest.approx(done.answers["gt_imagination"].probabilities, abs=1e-4)
    assert EDITED in answer_table(true) and EDITED not in answer_table(done)
    with pytest.raises(UserError, match="nothing to change yet"):
        game.change(asked, "mirror")


def test_walks_and_views_are_clicked_on_the_map(simulator: Simulator) -> None:
    game = Game(Player(toy.checkpoint(), DRAW), {"blocks": simulator})
    start = game.enter("mvc", "blocks", 1)
    places = [at for at in GRID if game.click(start, at).scenario is not None]
    turning = game.click(start, places[0])
    assert turning.scenario is not None and len(turning.scenario.views) == 4 and "three more places" in turning.message
    two = game.click(turning, places[1])
    assert two.message == "Click 2 more places." and two.scenario is None and len(two.clicks) == 2
    four = game.click(game.click(two, places[2]), places[3])
    assert four.scenario is not None and len(four.clicks) == 4 and len(game.click(four, places[0]).clicks) == 1
    assert picture_row(four.scenario.views).count("<img") == 4
    walk = game.click(game.enter("pt", "blocks", 1), places[0])
    assert walk.message == "Click where the walk goes next." and walk.scenario is None
    ends = [game.click(walk, at) for at in places[1:]]
    assert any(each.scenario is not None and each.sample.task == "pt" for each in ends)


def test_ones_own_pictures_are_asked_about_and_marked(game: Game) -> None:
    picture = encode_image(np.full((64, 64, 3), 120, np.uint8))
    known = toy.SAMPLES[0]
    play = game.bring([known.images[0].data], "pet", known.question, ["far", " near", ""])
    assert play.sample.choices == ("far", "near")
    _, done = finished(game, play)
    assert list(done.answers) == ["answer_only", "imagination"] and "✓" not in answer_table(done)
    assert (
        decode_image(game.mark(picture, (0.5, 0.9))).shape == (64, 64, 3) and game.mark(picture, (0.5, 0.9)) != picture
    )
    with pytest.raises(UserError, match="nobody knows the true picture"):
        game.change(done, "truth")


@pytest.mark.parametrize(
    ("pictures", "question", "choices", "told"),
    [
        ([], "Q", ["a", "b"], "choose 1 to 6 pictures, got 0"),
        ([noise_picture(0)] * (MAX_PICTURES + 1), "Q", ["a", "b"], "choose 1 to 6 pictures, got 7"),
        ([b"no picture"], "Q", ["a", "b"], "picture 1: not a PNG, JPEG or WebP"),
        ([noise_picture(0) + b"x" * MAX_BYTES], "Q", ["a", "b"], "picture 1: .* bytes, at most 8,388,608 are allowed"),
        ([encode_image(np.zeros((4001, 4000, 3), np.uint8))], "Q", ["a", "b"], "at most 16,000,000 are allowed"),
        ([noise_picture(0)], " ", ["a", "b"], "a question is needed"),
        ([noise_picture(0)], "Q" * 600, ["a", "b"], "of at most 500 letters"),
        ([noise_picture(0)], "Q", ["a"], "at least two options"),
    ],
)
def test_uploads_have_limits(game: Game, pictures: list[bytes], question: str, choices: list[str], told: str) -> None:
    with pytest.raises((UserError, BadImage), match=told):
        game.bring(pictures, "pet", question, choices)


def test_a_model_that_only_draws_is_played_with_too(simulator: Simulator, clicked: Play) -> None:
    """The base: pictures for every click, and answers at once that its page warns of."""
    game = make_game(AppConfig("base", draw=DRAW, device="cpu"))
    assert game.player.tasks == ("pet", "pt", "mvc") and game.player.side == 64
    assert not game.player.was_asked and not game.player.answers_from_pictures
    played = Game(game.player, {"blocks": simulator})
    steps, done = finished(played, clicked)
    assert len(steps) == 3 and done.imagined is not None and done.imagined.prediction is None
    assert list(done.answers) == ["answer_only"]
    with pytest.raises(UserError, match="was not trained to answer from pictures"):
        played.ask_again(done, done.imagined.picture)


def test_a_simulator_that_died_says_so_and_starts_again() -> None:
    simulator = Simulator(ROOMS)
    before = simulator.look(0)
    assert simulator._process is not None
    simulator._process.kill()
    simulator._process.wait()
    assert simulator.look(0) == before
    simulator.close()
    broken = Simulator(["backend=nowhere"])
    with pytest.raises(UserError, match="the simulator ended; the terminal says why"):
        broken.look(0)


def test_settings_reach_the_game_and_wrong_ones_are_named(tmp_path: Path) -> None:
    game = make_game(AppConfig("base", draw=DrawSettings(timesteps=7), device="cpu"))
    assert game.player.draw.timesteps == 7
    blocks = game.simulators["blocks"]._settings
    assert "backend.blocks.shapes=[cylinder]" in blocks and "image_size=64" in blocks and "task.plain=true" in blocks
    assert "samples_per_shard=1024" not in blocks
    silent = toy.save_run(tmp_path / "silent", "label_only")
    with pytest.raises(UserError, match="none of which draws"):
        make_game(AppConfig(str(silent), device="cpu"))
    for wrong in ({"rooms": "castle"}, {"dtype": "int8"}, {"port": -1}):
        with pytest.raises(UserError):
            AppConfig("base", **wrong)  # type: ignore[arg-type]
