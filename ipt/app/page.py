"""The page: gradio components around a `Game`. Every task has the same three pictures side by side: what is seen and clicked in,
what the model imagines, what is really there."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import gradio as gr
from PIL import Image

from ipt.app.answers import answer_table, picture_row
from ipt.app.game import INVITATIONS, MAX_BYTES, MAX_PICTURES, Game, Play
from ipt.app.player import CHANGES, Drawn
from ipt.common.errors import UserError
from ipt.common.images import encode_image, image_size, open_image

TITLE = "Imagination playground"
INTRODUCTION = (
    "A model sees a picture, is asked about a view it cannot see, and **draws that view first**. Click in the first picture, "
    "let it imagine, and compare with what is really there. Then change what it imagined: if its answer comes from the picture, "
    "the answer changes, too."
)
NOT_ASKED = (
    "**This checkpoint draws, but was never trained to answer.** The probabilities below are those of a model that does not know "
    "what it is asked. A checkpoint that was fine-tuned on questions, such as that of `make demo`, answers, and its imagination "
    "can be changed."
)
TABS: Mapping[str, str] = {"pet": "Move and turn", "pt": "Walk on a map", "mvc": "Count from four views"}
SIDES: Mapping[str, tuple[str, str]] = {"pet": ("Turn", "Then turn"), "pt": ("Look", "Halfway, look"), "mvc": ("", "")}
CSS = """
.gradio-container { max-width: 1240px !important; margin: 0 auto !important; }
footer { display: none !important; }
.answers table { width: 100%; border-collapse: collapse; font-variant-numeric: tabular-nums; border: 0 !important; margin: 0; }
.answers td, .answers th { text-align: left; padding: .35rem .6rem .35rem 0 !important; border: 0 !important;
                           border-bottom: 1px solid #d9dee6 !important; }
.answers tr { border: 0 !important; background: none !important; }
.answers .bar { display: inline-block; height: .7rem; border-radius: 3px; background: #9fb6da; vertical-align: middle;
                margin-right: .4rem; }
.answers .right .bar { background: #3a9a67; }
.answers .chosen { font-weight: 700; }
.tab-wrapper, .tab-container { flex-wrap: wrap !important; height: auto !important; }
@media (max-width: 640px) {
  .controls, .controls .form, .controls .row { flex-direction: column !important; flex-wrap: wrap !important; }
  .controls > *, .controls .form > *, .pictures > * { min-width: 100% !important; }
}
.views { display: flex; gap: .4rem; } .views img { width: calc(25% - .3rem); border-radius: 6px; }
"""
PAINTED = 384  # pixels per side of what is painted on
#: All that happens, happens one after another.
QUEUE = {"concurrency_id": "play", "concurrency_limit": 1, "api_visibility": "private"}


@dataclass(frozen=True)
class Panel:
    """The components of one tab that show a visitor's place."""

    play: gr.State
    picture: gr.Image
    message: gr.Markdown
    views: gr.HTML
    question: gr.Dropdown
    imagined: gr.Image
    caption: gr.Markdown
    truth: gr.Image
    answers: gr.HTML
    editor: gr.ImageEditor

    @property
    def all(self) -> list[Any]:
        return [getattr(self, name) for name in self.__dataclass_fields__]

    def shown(self, play: Play) -> list[Any]:
        """The values of all components."""
        scenario, made = play.scenario, play.imagined
        picture = scenario.marked if scenario is not None else play.picture
        questions = scenario.questions if scenario is not None else ()
        listed = [(each.question, number) for number, each in enumerate(questions)]
        truth = made is not None and scenario is not None and scenario.truth
        return [
            play,
            opened(picture),
            play.message,
            picture_row(scenario.views) if scenario is not None and len(scenario.views) > 1 else "",
            gr.Dropdown(choices=listed, value=play.question if listed else None, visible=bool(listed)),
            enlarged(made.picture) if made is not None else None,
            "" if made is None else drawn_words(made.picture, play.seed),
            opened(scenario.truth) if truth and scenario is not None else None,
            answer_table(play),
            enlarged(made.picture) if made is not None else None,
        ]


def build(game: Game, rooms: Mapping[str, str], first: str) -> gr.Blocks:
    """The page. ``rooms``: the names of the simulators, as visitors read them; ``first``: the one that they come into."""
    with gr.Blocks(title=TITLE, analytics_enabled=False, delete_cache=(3600, 3600)) as page:
        gr.Markdown(f"# {TITLE}\n{INTRODUCTION}")
        if not game.player.was_asked:
            gr.Markdown(NOT_ASKED, elem_id="not-asked")
        for task in game.player.tasks:
            with gr.Tab(TABS[task], id=task):
                scene_tab(game, task, rooms, first, page)
        with gr.Tab("Your own pictures", id="own"):
            own_tab(game)
    return page.queue(max_size=64)


def launch(page: gr.Blocks, host: str, port: int, share: bool) -> None:
    """Serve the page until interrupted; port 0 takes a free one. ``UserError`` for a port that is taken."""
    theme = gr.themes.Default(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"])
    try:
        page.launch(
            server_name=host,
            server_port=port or free_port(host),
            share=share,
            quiet=True,
            prevent_thread_lock=True,
            max_file_size=MAX_BYTES,
            footer_links=[],
            theme=theme,
            css=CSS,
            ssr_mode=False,
        )
    except OSError as error:
        raise UserError(f"port {port} of this machine is taken; set another port, or port=0 for a free one") from error
    print(f"{page.share_url or page.local_url} (Ctrl-C ends it)", flush=True)
    try:
        page.block_thread()
    finally:
        page.close(verbose=False)


def free_port(host: str) -> int:
    """A port that nobody listens on."""
    with socket.create_server((host, 0)) as listening:
        return int(listening.getsockname()[1])


def scene_tab(game: Game, task: str, rooms: Mapping[str, str], first: str, page: gr.Blocks) -> None:
    """The tab of a task in simulated scenes."""
    with gr.Row(elem_classes="controls"):
        room = gr.Radio([(name, key) for key, name in rooms.items()], value=first, label="Room", scale=3)
        scene = gr.Number(0, label="Scene number", precision=0, minimum=0, maximum=999_999, scale=1)
        about, label = SIDES[task]
        side = gr.Radio(["left", "right"], value="left", label=label or about, visible=task != "mvc", scale=2)
        following = gr.Button("Next scene", min_width=110, elem_id=f"next-{task}")
        clear = gr.Button("Clear", min_width=80)
    panel, imagine, seed = pictures(game, task)

    def enter(room: str, scene: int, side: str) -> list[Any]:
        return panel.shown(said(lambda: game.enter(task, room, int(scene or 0), side)))

    def click(play: Play | None, event: gr.SelectData) -> list[Any]:
        if play is None:
            raise gr.Error("The scene is still being made.", duration=4, print_exception=False)
        return panel.shown(said(lambda: game.click(play, shares(play.picture, event))))

    page.load(enter, [room, scene, side], panel.all, **QUEUE)
    for control in (room, scene):
        control.change(enter, [room, scene, side], panel.all, **QUEUE)
    following.click(lambda scene: int(scene or 0) + 1, scene, scene, **QUEUE)
    side.change(
        lambda play, side: panel.shown(said(lambda: game.turn(play, side))), [panel.play, side], panel.all, **QUEUE
    )
    clear.click(lambda play: panel.shown(said(lambda: game.clear(play))), panel.play, panel.all, **QUEUE)
    panel.picture.select(click, panel.play, panel.all, **QUEUE)
    wire(game, panel, imagine, seed)


def own_tab(game: Game) -> None:
    """The tab of a visitor's own pictures."""
    with gr.Row(elem_classes="controls"):
        files = gr.File(
            file_count="multiple",
            file_types=[".png", ".jpg", ".jpeg", ".webp"],
            type="binary",
            label=f"Up to {MAX_PICTURES} pictures, {MAX_BYTES // 2**20} MiB each (PNG, JPEG, WebP)",
            height=140,
        )
        with gr.Column():
            kinds = [(TABS[task], task) for task in game.player.tasks]
            task = gr.Radio(kinds, value=kinds[0][1], label="Ask as in")
            question = gr.Textbox("Is the lamp on the left?", label="Question", max_length=300)
            choices = gr.Textbox("yes\nno", label="Options, one a line", lines=2, max_length=200)
    gr.Markdown("Click in the picture to put a red X on its floor. Nobody knows the true view of your own pictures.")
    panel, imagine, seed = pictures(game, "own")
    marked = gr.State(None)

    def bring(files: list[bytes] | None, task: str, question: str, choices: str) -> tuple[Any, ...]:
        pictures = list(files or [])
        play = said(lambda: game.bring(pictures, task, question, choices.splitlines()))
        return (pictures, *panel.shown(play))

    def mark(pictures: list[bytes] | None, task: str, question: str, choices: str, event: gr.SelectData) -> list[Any]:
        if not pictures:
            raise gr.Error("Choose a picture first.", duration=4, print_exception=False)
        with_x = said(lambda: game.mark(pictures[0], shares(pictures[0], event)))
        return panel.shown(said(lambda: game.bring([with_x, *pictures[1:]], task, question, choices.splitlines())))

    asked = [files, task, question, choices]
    for control in (files.change, task.change, question.blur, choices.blur):
        control(bring, asked, [marked, *panel.all], **QUEUE)
    panel.picture.select(mark, [marked, *asked[1:]], panel.all, **QUEUE)
    wire(game, panel, imagine, seed)


def pictures(game: Game, name: str) -> tuple[Panel, gr.Button, gr.Number]:
    """The three pictures of a tab, what is asked, what is answered, and how the imagination is changed."""
    size: dict[str, Any] = {"height": 380, "format": "png", "buttons": []}
    with gr.Row(elem_classes="pictures"):
        with gr.Column(min_width=280):
            picture = gr.Image(label="What is seen: click here", interactive=False, elem_id=f"seen-{name}", **size)
        with gr.Column(min_width=280):
            imagined = gr.Image(label="What the model imagines", interactive=False, elem_id=f"imagined-{name}", **size)
        with gr.Column(min_width=280, visible=name != "own"):
            truth = gr.Image(label="What is really there", interactive=False, elem_id=f"truth-{name}", **size)
    with gr.Row(elem_classes="controls"):
        message = gr.Markdown(INVITATIONS.get(name, "Choose pictures."), elem_id=f"message-{name}")
        caption = gr.Markdown("", elem_id=f"caption-{name}")
    views = gr.HTML("")
    with gr.Row(elem_classes="controls"):
        question = gr.Dropdown([], label="Question", visible=False, scale=4, elem_id=f"question-{name}")
        seed = gr.Number(0, label="Seed of the drawing", precision=0, minimum=0, maximum=2**31, scale=1)
        imagine = gr.Button("Imagine", variant="primary", scale=1, elem_id=f"imagine-{name}")
    answers = gr.HTML("", elem_classes="answers", elem_id=f"answers-{name}")
    with gr.Accordion(
        "Change what it imagined", open=False, visible=game.player.answers_from_pictures, elem_id=f"change-{name}"
    ):
        editor = gr.ImageEditor(
            label="Paint on it, or use a button; then ask again",
            sources=[],
            transforms=[],
            layers=False,
            canvas_size=(PAINTED, PAINTED),
            height=PAINTED + 100,
            brush=gr.Brush(default_size=16),
            elem_id=f"editor-{name}",
        )
        arms = {**CHANGES, **({} if name == "own" else {"other": "Another scene's", "truth": "The truth"})}
        with gr.Row():
            changes = {arm: gr.Button(words, min_width=120, elem_id=f"{arm[:4]}-{name}") for arm, words in arms.items()}
            again = gr.Button("Ask again with this picture", variant="primary", elem_id=f"again-{name}")
    panel = Panel(gr.State(None), picture, message, views, question, imagined, caption, truth, answers, editor)
    for arm, button in changes.items():
        button.click(changing(game, arm), panel.play, editor, **QUEUE)
    again.click(asking(game), [panel.play, editor], [panel.play, answers], **QUEUE)
    return panel, imagine, seed


def wire(game: Game, panel: Panel, imagine: gr.Button, seed: gr.Number) -> None:
    """What happens on the buttons that all tabs have. Imagining anew takes the next seed."""

    def choose(play: Play | None, number: int | None) -> list[Any]:
        if play is None or number is None or number == play.question:
            return [gr.skip()] * len(panel.all)
        return panel.shown(game.choose(play, int(number)))

    def draw(play: Play | None, seed: int) -> Iterator[dict[Any, Any]]:
        if play is None:
            raise gr.Error("There is nothing to imagine yet.", duration=4, print_exception=False)
        steps = game.imagine(play, int(seed or 0))
        while True:
            shown = said(lambda: next(steps, None))
            if shown is None:
                return
            if isinstance(shown, Drawn):
                about = f"Step {shown.step} of {shown.steps} from noise to a picture."
                yield {panel.imagined: enlarged(shown.picture), panel.caption: about}
            else:
                yield {**dict(zip(panel.all, panel.shown(shown), strict=True))}

    panel.question.input(choose, [panel.play, panel.question], panel.all, **QUEUE)
    drawn = imagine.click(draw, [panel.play, seed], panel.all, show_progress="hidden", **QUEUE)
    drawn.success(lambda seed: int(seed or 0) + 1, seed, seed, **QUEUE)


def changing(game: Game, arm: str) -> Callable[[Play | None], Image.Image]:
    """What a button does to the picture in the editor."""

    def change(play: Play | None) -> Image.Image:
        return enlarged(said(lambda: game.change(required(play), arm)))

    return change


def asking(game: Game) -> Callable[[Play | None, Mapping[str, Any] | None], tuple[Play, str]]:
    """What asks with the picture in the editor."""

    def ask(play: Play | None, edited: Mapping[str, Any] | None) -> tuple[Play, str]:
        composite = None if edited is None else edited["composite"]
        if composite is None:
            raise gr.Error("There is no picture yet; let the model imagine first.", duration=6, print_exception=False)
        answered = said(lambda: game.ask_again(required(play), encode_image(composite[:, :, :3])))
        return answered, answer_table(answered)

    return ask


def required(play: Play | None) -> Play:
    """The visitor's place. ``UserError`` before there is one."""
    if play is None:
        raise UserError("there is nothing to change yet; let the model imagine first")
    return play


def said(work: Callable[[], Any]) -> Any:
    """What ``work`` gives; what a visitor can mend is said to them."""
    try:
        return work()
    except UserError as error:
        words = str(error)
        raise gr.Error(f"{words[:1].upper()}{words[1:]}.", duration=8, print_exception=False) from error


def opened(data: bytes) -> Image.Image | None:
    """A picture for a component."""
    return open_image(data) if data else None


def shares(data: bytes, event: gr.SelectData) -> tuple[float, float]:
    """Where in a picture was clicked."""
    width, height = image_size(data)
    return event.index[0] / width, event.index[1] / height


def enlarged(data: bytes) -> Image.Image:
    """A picture at the size at which it is shown and painted on."""
    return open_image(data).resize((PAINTED, PAINTED), Image.Resampling.BICUBIC)


def drawn_words(data: bytes, seed: int) -> str:
    """What is said of a finished drawing."""
    width, height = image_size(data)
    return f"Drawn with seed {seed}: {width} x {height} pixels, enlarged. Imagining again takes the next seed."
