"""From a checked configuration to the objects of a run: codec, tokenizer, model, data."""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from ipt.common.errors import UnwritableFile, UserError
from ipt.common.files import read_json, write_json
from ipt.common.images import BadImage
from ipt.common.locking import held
from ipt.common.seeding import derived_seed
from ipt.common.settings import differences, typed
from ipt.imagination.base import Codebook
from ipt.imagination.mixture import make_segmenter
from ipt.imagination.modes import modes
from ipt.imagination.recipe import Recipe, Sampling, load_profile, read_recipe
from ipt.inference.checkpoint import Checkpoint
from ipt.model.checkpoint import StoredModel, build_on_meta, read_config, save_pretrained
from ipt.model.codec import LatentCodec, PatchPca, codec_digest, load_codec
from ipt.model.codes import CodeCodec, PatchKMeans, codes_shape, load_codes
from ipt.model.config import CodesConfig, ModelConfig, model_path, presets
from ipt.model.devices import use_threads
from ipt.model.tuning import apply_tuning, initialise_adapters, merged_state
from ipt.model.unified import UnifiedModel
from ipt.model.weights import root_mean_square
from ipt.samples.prompts import Profile
from ipt.samples.store import SampleReader
from ipt.samples.views import First, in_memory
from ipt.sequence.latent_cache import CODES, LatentCache
from ipt.sequence.loader import Loader, Part
from ipt.sequence.pictures import Picture, normalised, to_pixels
from ipt.sequence.render import Renderer
from ipt.sequence.settings import Geometry
from ipt.sequence.tokenizer import Tokenizer, dataset_texts, load_tokenizer, train_tokenizer
from ipt.training.config import TrainConfig, as_values
from ipt.training.distributed import World, gather_full, start_world
from ipt.training.evaluation import Evaluation, Validation, final_evaluation, mode_settings
from ipt.training.optim import learning_rate
from ipt.training.records import METRICS, SETTINGS, check_length, last_record, outcome
from ipt.training.reinforce import make_rollouts
from ipt.training.source import Source, Supervised
from ipt.training.trainer import Trainer

ASSETS = "assets"
#: Digests of the datasets that a run was begun with, by path.
DATASETS = "datasets.json"
CODEC_SAMPLES, CODES_SAMPLES = 64, 512
#: Settings that a continued run may change: where and how fast it runs, and when it ends, but not what it computes.
CHANGEABLE = (
    "name",
    "output_dir",
    "dry_run",
    "tracker",
    "distributed",
    "launch",
    "checkpoints",
    "evaluation",
    "sampling",
    "model.pad_packs",
    "data.in_memory",
    "loader.workers",
    "loader.start_method",
    "trainer.steps",
    "trainer.resume",
    "trainer.max_skipped",
    "trainer.hardest",
    "trainer.hang_minutes",
    "trainer.threads",
    "trainer.peak_tflops",
    "trainer.checkpoint_activations",
    "grpo.control_every",
    "grpo.write_every",
)


@dataclass(frozen=True)
class Assets:
    """What turns samples into the sequences of one model."""

    tokenizer: Tokenizer
    codec: LatentCodec | None
    profile: Profile
    shape: ModelConfig
    codes: CodeCodec | None = None


def readers(config: TrainConfig) -> dict[str, SampleReader]:
    """The datasets by folder. Raises ``ValueError`` for samples of a task that the run is not for."""
    read = in_memory if config.data.in_memory else SampleReader
    found: dict[str, SampleReader] = {folder: read(Path(folder)) for folder in config.data.weights}
    for folder, reader in found.items():
        if others := sorted(set(reader.column("task")) - set(config.task.names)):
            raise UserError(
                f"{folder} holds samples of the tasks {', '.join(others)}, the run is for {', '.join(config.task.names)}; "
                "choose task=all, or that task"
            )
    return found


def make_assets(config: TrainConfig, datasets: Sequence[SampleReader], folder: Path | None) -> Assets:
    """Tokenizer and codec: those of ``model.init``, else made from the datasets once and kept in ``folder``."""
    init, codec, shape = config.model.init, config.model.codec, model_shape(config)
    if config.reinforced and init is not None:
        profile = read_recipe(model_path(init)).profile
    else:
        profile = load_profile(config.data.profile, None if config.data.prompts is None else Path(config.data.prompts))
    tokenizer = _kept_tokenizer(config, datasets, profile, folder) if init is None else load_tokenizer(model_path(init))
    codes = _codes(config, datasets, shape, folder)
    if codec == "none":
        return Assets(tokenizer, None, profile, shape, codes)
    if codec == "patch_pca":
        return Assets(tokenizer, _kept_codec(config, datasets, shape, folder), profile, shape, codes)
    made = load_codec(model_path(init) if codec == "init" and init is not None else codec)
    if (made.channels, made.downsample) != (shape.latents.channels, shape.latents.downsample):
        raise UserError(
            f"the codec has {made.channels} channels at 1/{made.downsample}, the model {shape.latents.channels} at "
            f"1/{shape.latents.downsample}"
        )
    return Assets(tokenizer, made, profile, shape, codes)


def model_shape(config: TrainConfig) -> ModelConfig:
    """The shape of the model. Raises ``ValueError`` where the weights of ``model.init`` are of another one than the preset."""
    model, phi = config.model, config.imagination.slot_input
    coded = config.imagination.coded
    book = None if coded is None else coded.codebook
    if model.init is None:
        return replace(model.shape, phi=phi or "none", codes=_asked_codes(book, model.shape.geometry))
    stored = model.sized(read_config(model_path(model.init), model.weights)[0])
    if phi is not None and phi != stored.phi == "linear":
        raise UserError(f"the model in model.init={model.init} has learned its map: set imagination.latent.phi=linear")
    known = stored.phi
    asked = _asked_codes(book, stored.geometry)
    codes = stored.codes if stored.codes.count else asked
    if book is not None and book.folder is not None and codes != asked:
        raise UserError(
            f"the codec {book.folder} has {asked.count} codes of {asked.stride} pixels, the vocabulary of model.init="
            f"{model.init} {codes.count} of {codes.stride}: leave the codec out, which takes that of model.init"
        )
    stored = replace(stored, codes=codes)
    stored = replace(stored, phi=model.shape.phi) if model.preset is not None else stored
    if model.preset is not None and replace(stored, name=model.preset, codes=CodesConfig()) != model.shape:
        plain = replace(stored, codes=CodesConfig())
        same = [name for name in presets if replace(plain, name=name) == model.sized(presets[name])]
        raise UserError(
            f"the model in model.init={model.init} is not of the shape model.preset={model.preset}; choose "
            f"{f'model={same[0]}' if same else 'model.preset=null, which takes the shape as it is'}"
        )
    return replace(stored, phi=known if phi is None else phi)


def _kept_tokenizer(
    config: TrainConfig, datasets: Sequence[SampleReader], profile: Profile, folder: Path | None
) -> Tokenizer:
    if folder is not None and (folder / "tokenizer.json").is_file():
        return load_tokenizer(folder)
    untrained = {name for name, mode in modes.items() if mode.words and name not in config.imagination.trained}
    systems = {key: text for key, text in profile.systems.items() if key.split("/")[-1] not in untrained}
    words = [word for name in config.imagination.trained for word in modes[name].words]
    known = replace(profile, systems=systems)
    texts = itertools.chain.from_iterable(dataset_texts(reader, known, words) for reader in datasets)
    tokenizer = train_tokenizer(texts, config.model.shape.decoder.vocab)
    if folder is not None:
        tokenizer.save(folder)
    return tokenizer


def _kept_codec(
    config: TrainConfig, datasets: Sequence[SampleReader], shape: ModelConfig, folder: Path | None
) -> LatentCodec:
    if folder is not None and (folder / "codec.safetensors").is_file():
        return load_codec(folder)
    side = config.resolution.imagination * shape.geometry.latent_stride
    images = []
    for reader in datasets:
        for row in range(0, len(reader), max(len(reader) // CODEC_SAMPLES, 1)):
            sample = reader[row]
            try:
                pictures = [picture.pixels() for picture in (sample.imagination, *sample.images)]
            except BadImage as error:
                raise UserError(f"{reader.where(row)}: sample '{sample.id}', {error}") from error
            images += [to_pixels(_picture(pixels, side)) for pixels in pictures]
    codec = PatchPca.fit(images, shape.latents.downsample, shape.latents.channels)
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        codec.save(folder)
    return codec


def _asked_codes(book: Codebook | None, geometry: Geometry) -> CodesConfig:
    """The codes that the settings ask for."""
    if book is None:
        return CodesConfig()
    if book.folder is not None:
        return codes_shape(book.folder)
    return CodesConfig(book.count, book.stride or geometry.latent_stride)


def _codes(
    config: TrainConfig, datasets: Sequence[SampleReader], shape: ModelConfig, folder: Path | None
) -> CodeCodec | None:
    """The codec of the model's codes: that of ``model.init`` where it has one, the one that was named, or one that is fitted to
    the pictures that are written as codes."""
    coded, init = config.imagination.coded, config.model.init
    made = None if init is None or not shape.codes.count else load_codes(model_path(init))
    if coded is None or coded.codebook is None:
        return made
    named = None if coded.codebook.folder is None else load_codes(coded.codebook.folder)
    if made is not None and named is not None and made.digest != named.digest:
        raise UserError(
            f"the codec {coded.codebook.folder} is not that of the codes in model.init={init}: leave it out"
        )
    if (found := made or named or (None if folder is None else load_codes(folder))) is not None:
        return found
    side, images = config.resolution.imagination * shape.geometry.latent_stride, []
    for reader in datasets:
        for row in range(0, len(reader), max(len(reader) // CODES_SAMPLES, 1)):
            sample = reader[row]
            try:
                picture = Picture(coded.picture(sample).data, ((side, side),), f"sample '{sample.id}', imagination")
                images.append(normalised(picture.pixels()))
            except BadImage as error:
                raise UserError(f"{reader.where(row)}: {error}") from error
    fitted = PatchKMeans.fit(images, shape.codes.stride, shape.codes.count)
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        fitted.save(folder)
    return fitted


def _picture(pixels: Any, side: int) -> Any:
    from PIL import Image

    return Image.fromarray(pixels).resize((side, side), Image.Resampling.BICUBIC)


def make_parts(config: TrainConfig, datasets: dict[str, SampleReader], assets: Assets) -> list[Part]:
    """The parts of the data. They are numbered: their names decide the order of the data, and folders may be moved."""
    renderer = Renderer(assets.tokenizer, assets.shape.geometry, assets.profile, config.full_sequence)
    parts = []
    for number, (folder, reader) in enumerate(datasets.items()):
        samples = reader if config.data.limit is None else First(reader, config.data.limit)
        segmenter = make_segmenter(config.imagination, renderer, samples, config.loss.noise_draws)  # type: ignore[arg-type]
        parts.append(Part(f"part-{number}", samples, segmenter, config.data.weights.get(folder, 1.0)))
    return parts


def make_source(config: TrainConfig, datasets: dict[str, SampleReader], assets: Assets, world: World) -> Source:
    """Where the run's packs come from: the datasets, or what the model makes of their questions."""
    if not config.reinforced:
        return Supervised(make_loader(config, datasets, assets, world), config.loss)
    alone = replace(config, imagination=config.imagination.at_inference)
    return make_rollouts(config, make_parts(alone, datasets, assets), checkpoint_of(config, assets), datasets, world)


def checkpoint_of(config: TrainConfig, assets: Assets) -> Callable[[UnifiedModel], Checkpoint]:
    """Adds to a model what inference needs."""
    asked = recipe(config, assets)
    return lambda model: Checkpoint(model, assets.codec, assets.tokenizer, asked, assets.codes)


def make_loader(config: TrainConfig, datasets: dict[str, SampleReader], assets: Assets, world: World) -> Loader:
    """The packs of this rank."""
    parts = make_parts(config, datasets, assets)
    latents = codes = None
    if config.data.cache is not None and assets.codec is not None and (assets.codes is None or config.encodes):
        latents = LatentCache(Path(config.data.cache), codec_digest(assets.codec))
    if config.data.cache is not None and assets.codes is not None and config.imagination.coded is not None:
        codes = LatentCache(Path(config.data.cache) / CODES, assets.codes.digest)
    special, geometry = assets.tokenizer.special, assets.shape.geometry
    return Loader(parts, special, geometry, config.loader, latents, world.rank, world.size, codes)


def make_validation(config: TrainConfig, assets: Assets, world: World) -> Validation | None:
    """The validation of the run, on its own split and with true imaginations; always the same packs, whatever trains. Raises
    ``ValueError`` where they cannot be made."""
    if config.data.validation is None:
        return None
    reader = SampleReader(config.data.validation)
    packs = replace(config.loader, packs_per_step=config.data.validation_packs, workers=0)
    data = replace(config.data, limit=None)
    alone = replace(config, data=data, loader=packs, imagination=config.imagination.at_inference)
    try:
        loader = make_loader(alone, {str(reader.source): reader}, assets, world)
        batches = list(itertools.islice(loader, len(loader.lanes)))
    except UserError as error:
        raise UserError(f"data.validation={config.data.validation}: {error}") from error
    evaluate = None
    if config.evaluation.questions:
        samples = [reader[row] for row in range(min(config.evaluation.questions, len(reader)))]
        evaluate = Evaluation(
            checkpoint_of(config, assets), samples, mode_settings(config), config.evaluation.batch_size
        )
    return Validation(batches, evaluate)


def make_model(config: TrainConfig, shape: ModelConfig) -> UnifiedModel:
    """The model as it is tuned, float32, without memory; `start_weights` gives it its weights."""
    model = build_on_meta(shape, config.model.attention)
    model.pad_packs = config.model.pad_packs
    return apply_tuning(model, config.full_tuning)


def start_weights(config: TrainConfig, device: str, model: UnifiedModel) -> None:
    """Write the weights of the run's start into ``model`` on ``device``: those of ``model.init`` or random ones, and random
    adapters. They do not depend on the number of processes that it may be divided among."""

    def generator(name: str) -> torch.Generator:
        return torch.Generator(device).manual_seed(derived_seed(config.trainer.seed, name))

    model.compute_tables()
    if config.model.init is None:
        model.initialise(generator("weights"))
    else:
        model.slot_in.reset_parameters()
        stored = StoredModel.in_folder(model_path(config.model.init), config.model.weights)
        stored.copy_into(model)
        if model.codes is not None and not stored.config.codes.count:
            model.codes.reset_parameters(root_mean_square(model.decoder.embed_tokens.weight), generator("codes"))
    initialise_adapters(model, generator("adapters"))


def make_trainer(config: TrainConfig, world: World) -> tuple[Trainer, Assets]:
    """Everything that `Trainer.run` needs. Raises ``ValueError`` where the folder holds a run of other settings."""
    folder, datasets = Path(config.output_dir), readers(config)
    if world.is_main:  # it makes the assets, which the others then read
        check_settings(config, folder)
        make_assets(config, list(datasets.values()), folder / ASSETS)
    world.barrier()
    assets = make_assets(config, list(datasets.values()), folder / ASSETS)
    for codec in (assets.codec, assets.codes):
        if codec is not None:
            codec.to(world.device)
    source = make_source(config, datasets, assets, world)
    encode = None if assets.codec is None else assets.codec.encode
    model = make_model(config, assets.shape)
    use_threads(sum(weight.numel() for weight in model.parameters()), world.device, config.trainer.threads)
    trainer = Trainer(
        model,
        source,
        config.full_trainer,
        folder,
        encode,
        world,
        config.distributed,
        config.tracker,
        make_validation(config, assets, world),
        functools.partial(start_weights, config, world.device),
        None if assets.codes is None else assets.codes.encode,
    )
    return trainer, assets


def check_settings(config: TrainConfig, folder: Path) -> None:
    """Keep the settings with a new run; raise ``ValueError`` where a run in ``folder`` has others that change its results, or has
    gone on for longer."""
    check_length(folder, config.trainer.steps)
    here, digests = as_values(config), data_digests(config)
    path, known = folder / SETTINGS, folder / DATASETS
    if path.is_file():
        before = kept_settings(path)
        same = same_rates(config, int(before["trainer"]["steps"]), folder)
        free = [name for name in CHANGEABLE if same or name != "trainer.steps"]
        data = respelled(here["data"], digests, before["data"], read_json(known) if known.is_file() else {})
        if changed := differences(before, {**here, "data": data}, free):
            raise UserError(
                f"{folder} holds a run with other settings ({changed}); restore them, or set another output_dir"
            )
    try:
        write_json(path, here)
        write_json(known, digests)
    except OSError as error:
        raise UnwritableFile(
            f"the output folder {folder} cannot be written ({error}); set another output_dir"
        ) from error


def data_digests(config: TrainConfig) -> dict[str, str]:
    """The digests of the run's datasets, by the paths that the settings name them with."""
    data = config.data
    folders = [*data.weights, *([] if data.validation is None else [data.validation])]
    return {folder: SampleReader(Path(folder)).digest() for folder in folders}


def respelled(
    data: Mapping[str, Any], digests: Mapping[str, str], before: Mapping[str, Any], known: Mapping[str, str]
) -> dict[str, Any]:
    """The settings ``data`` with the paths that the run was begun with, where they name the same dataset; with its digest where
    one is another dataset under the path of before. ``known``: the digests of before."""

    def named(path: str, old: str | None) -> str:
        if old is None or old not in known:
            return path  # a run of an earlier version: the spelling is all there is to compare
        if known[old] == digests[path]:
            return old
        return f"{path} (changed: {digests[path][:12]} for {known[old][:12]})" if path == old else path

    parts = list(before["parts"])
    return {
        **data,
        **{key: named(data[key], before[key]) for key in ("train", "validation") if data[key] is not None},
        "parts": {
            named(path, parts[place] if place < len(parts) else None): weight
            for place, (path, weight) in enumerate(data["parts"].items())
        },
    }


def check_precision(dtype: str) -> None:
    """Raise ``UserError`` where ``accelerate launch --mixed_precision`` is not ``trainer.dtype``, which counts."""
    asked = {"bf16": "bfloat16", "no": dtype}.get(given := os.environ.get("ACCELERATE_MIXED_PRECISION", "no"), given)
    if asked != dtype:
        wanted = "set trainer.dtype=bfloat16, and" if given == "bf16" else "trainer.dtype=float32 or bfloat16 says it:"
        raise UserError(
            f"accelerate's mixed_precision={given} does not go with trainer.dtype={dtype}; {wanted} leave out --mixed_precision"
        )


def kept_settings(path: Path) -> dict[str, Any]:
    """The settings that a run was started with. Those that its program did not have yet are as they are by default, since a new
    setting's default changes no run; where there is one that the program has no more, all are as they stand."""
    before: dict[str, Any] = read_json(path)
    try:
        return as_values(typed(TrainConfig, before))
    except UserError:
        return before


def same_rates(config: TrainConfig, steps: int, folder: Path) -> bool:
    """Whether the steps that ``folder`` records had the same learning rates in a run of ``steps`` as in one of this length: the
    end of a cosine decides the rates before it."""
    made = (last_record(folder / METRICS) or {"step": -1})["step"] + 1
    return all(
        learning_rate(config.optim, step, steps) == learning_rate(config.optim, step, config.trainer.steps)
        for step in range(made)
    )


def run(config: TrainConfig) -> float | None:
    """Train and export, alone in the folder. Returns the `outcome`, or None where a signal stopped the run."""
    world = start_world(config.distributed)
    check_precision(config.trainer.dtype)
    with held(Path(config.output_dir)) if world.is_main else contextlib.nullcontext():
        return _run(config, world)


def _run(config: TrainConfig, world: World) -> float | None:
    trainer, assets = make_trainer(config, world)
    if not trainer.run():
        if world.is_main:
            message = f"stopped after step {trainer.step} of {config.trainer.steps}; the same command continues"
            print(message, file=sys.stderr)
        world.barrier()
        return None
    folder = export(trainer, assets, config)
    world.barrier()
    if world.is_main:
        print(f"{config.output_dir}: {trainer.step} steps, {trainer.skipped} skipped; weights in {folder}")
        if config.evaluation.data is not None:
            shares = final_evaluation(config, world.device)
            print(", ".join(f"{name} {share:.1%}" for name, share in shares.items()))
    return outcome(Path(config.output_dir), config.checkpoints.best)


def export(trainer: Trainer, assets: Assets, config: TrainConfig) -> Path:
    """The trained model as safetensors, with codec and tokenizer, in ``model/``: the average where there is one, adapters
    merged. All ranks call this."""
    folder = Path(config.output_dir) / "model"
    with contextlib.nullcontext() if trainer.ema is None else trainer.ema.swapped_in():
        trainer.weights.sync_to_model()
        _save(trainer.model.eval(), assets, config, folder, trainer.world)
    trainer.weights.sync_to_model()
    return folder


def _save(model: Any, assets: Assets, config: TrainConfig, folder: Path, world: World) -> None:
    state = gather_full(merged_state(model) if config.tuning.kind == "lora" else dict(model.named_parameters()), world)
    if not world.is_main:
        return
    tokenizer = Path(config.output_dir) / ASSETS if config.model.init is None else model_path(config.model.init)
    recipe(config, assets).save(folder)
    save_pretrained(model, folder, state=state, codec=assets.codec, codes=assets.codes, tokenizer=tokenizer)


def recipe(config: TrainConfig, assets: Assets) -> Recipe:
    """How the trained model is to be asked: after reinforcement, as before it."""
    if config.reinforced and config.model.init is not None:
        trained = read_recipe(model_path(config.model.init))
        return trained if config.sampling == Sampling() else replace(trained, sampling=config.sampling)
    return Recipe(config.imagination, config.full_sequence, assets.profile, config.sampling)
