"""What every job of an engine starts from: its model, its data, its folder, and the newest checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from otx_xai.data import search_images
from otx_xai.engine.explaining import Images
from otx_xai.engine.workspace import named_folder, newest_checkpoint
from otx_xai.errors import ConfigError
from otx_xai.explain.insertion import split_layers
from otx_xai.methods.table import method_name
from otx_xai.model import ModelOptions
from otx_xai.options import read_word
from otx_xai.recipe import override, read_recipe
from otx_xai.records import RayOptions, Task
from otx_xai.settings import RunSettings, absolute
from otx_xai.storage import Place, place_of

if TYPE_CHECKING:
    from typing import Self

    from torch import nn

    from otx_xai.data.datamodule import OTXDataModule
    from otx_xai.models import OTXModel

DataT = TypeVar("DataT")
SettingsT = TypeVar("SettingsT", bound=RunSettings)

_OWN = ("model", "datamodule", "task", "work_dir", "checkpoint", "device", "data_root")
"""Arguments of an engine, which are none of its trainer's."""


class EngineState:
    """The state of an :class:`~otx_xai.engine.Engine`, which says what the arguments mean."""

    def __init__(
        self,
        model: OTXModel | nn.Module | Mapping[str, Any] | str | None = None,
        datamodule: OTXDataModule | None = None,
        task: Task | str | None = None,
        work_dir: str | Path | None = None,
        checkpoint: str | Path | None = None,
        device: str = "CPU",
        *,
        data_root: str | Path | None = None,
        **trainer_arguments: Any,
    ) -> None:
        self.model = model
        self.datamodule = datamodule
        self.task = read_word(Task, task)
        self.work_dir = named_folder(work_dir)
        self.checkpoint = checkpoint
        self.device = device
        self.data_root = data_root
        self.trainer_arguments = trainer_arguments
        self._has_trained = False

    @classmethod
    def from_config(cls, recipe: str | Path, data_root: str | Path | None = None, **overrides: Any) -> Self:
        """Make an engine from a recipe.

        Args:
            recipe: name of a recipe (``otx find`` lists them) or a YAML file.
            data_root: images and their annotations.
            overrides: other arguments of the engine, such as ``work_dir``; arguments of the trainer, such as
                ``max_epochs``; and anything in the recipe by its dotted name, given as
                ``**{"model.init_args.learning_rate": 1e-4, "data.batch_size": 4}``.

        Raises:
            ConfigError: there is no such recipe, or an override means nothing.
        """
        own = {name: overrides.pop(name) for name in ("work_dir", "checkpoint", "device") if name in overrides}
        changes = {f"trainer.{name}" if _is_plain(name) else name: value for name, value in overrides.items()}
        content = override(read_recipe(recipe), changes)
        task = content.get("task")
        trainer, data = (_section(content, name) for name in ("trainer", "data"))
        if strange := sorted(trainer.keys() & set(_OWN)):
            raise ConfigError(
                f"The recipe's trainer holds {', '.join(strange)}, which is told to the engine itself; expected "
                "arguments of lightning.Trainer below it."
            )
        datamodule = make_datamodule(data_root, task, data) if data_root is not None else None
        return cls(content.get("model"), datamodule, task, data_root=data_root, **own, **trainer)

    def _settings(self, kind: type[SettingsT], arguments: Mapping[str, Any]) -> SettingsT:
        """Make the settings of a job of its arguments, which bear their names, and of what the engine was told.

        Args:
            kind: of settings.
            arguments: by name; those that are no settings count for nothing.
        """
        declared = {own.name: own for own in fields(kind)}
        told = {name: value for name, value in arguments.items() if name in declared}
        for name, value in list(told.items()):
            if value is None and declared[name].default_factory is not MISSING:
                del told[name]  # options of their own, such as those of the input
        if isinstance(told.get("ray"), str):
            told["ray"] = RayOptions(told["ray"])
        if "explain_method" in told:
            told["explain_method"] = method_name(told["explain_method"])
        told["checkpoint"] = told["checkpoint"] or self.checkpoint
        own: dict[str, Any] = {
            "model": self._architecture(),
            "task": self.task,
            "device": self.device,
            "work_dir": self.work_dir,
        }
        return kind(**own, **told)

    def _model_options(self, settings: RunSettings, data: Images, threshold: float | None) -> ModelOptions:
        """Return what is said of the model that explains."""
        return ModelOptions(
            settings.task,
            settings.labels,
            settings.input,
            settings.output,
            settings.format,
            threshold,
            target_layers=split_layers(settings.target_layer),
            architecture=self.model,
            weights=settings.weights,
            normalised=data.normalised,
            tensor_size=data.size,
        )

    def _source(self, checkpoint: str | Path | None) -> Any:
        """Return what is explained: the file that is named, else the module in hand, else the newest of training."""
        in_hand = callable(getattr(self.model, "state_dict", None)) and not self._has_trained
        if in_hand and not (checkpoint or self.checkpoint):
            return self.model
        return self._checkpoint(checkpoint)

    def _architecture(self) -> str | None:
        """Return the name of the architecture that the engine, or its recipe, was given."""
        if isinstance(self.model, Mapping):
            return (self.model.get("init_args") or {}).get("architecture")
        return self.model if isinstance(self.model, str) else None

    def _checkpoint(self, checkpoint: str | Path | None) -> Place:
        chosen = checkpoint or self.checkpoint
        if not chosen and isinstance(self.model, str) and Path(self.model).expanduser().is_file():
            raise ConfigError(
                f"--model is {self.model!r}, which is a file; it names the architecture of a plain state dict. "
                f"Pass the file as --checkpoint."
            )
        return place_of(chosen) if chosen else newest_checkpoint(self.work_dir)

    def _given(
        self,
        datamodule: Any,
        data_root: str | Path | None,
        at: Callable[[str | Path], DataT],
        of: Callable[[Any], DataT],
    ) -> DataT:
        """Return the images of a job: what this call was given outranks what the engine was made with.

        Args:
            datamodule: that this call was given.
            data_root: that this call was given.
            at: finds images at a path.
            of: finds those of a data module.
        """
        for root, module in ((data_root, datamodule), (self.data_root, self.datamodule)):
            if root:
                return at(root)
            if module is not None:
                return of(module)
        raise ConfigError(
            "No images were given; expected a folder, an image, a list file or a glob. Pass it as --data_root, or pass "
            "an OTXDataModule."
        )


def images_at(root: str | Path) -> Images:
    """Find the images at a path.

    Raises:
        DataError: there are none.
    """
    found = search_images(root)
    return Images(found.images, absolute(root), not_read=found.not_read)


def _section(content: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return what a recipe holds under a name, which may be missing."""
    section = content.get(name) or {}
    if not isinstance(section, Mapping) or not all(isinstance(key, str) for key in section):
        raise ConfigError(f"The recipe's {name} is {section!r}; expected names and values below it.")
    return dict(section)


def _is_plain(name: str) -> bool:
    """Whether an override without a dot is meant for the trainer."""
    return "." not in name and name not in ("model", "data", "trainer", "task")


def make_datamodule(root: str | Path, task: Task | str | None, arguments: Mapping[str, Any]) -> OTXDataModule:
    """Make the data module of annotated images at a path.

    Raises:
        ConfigError: there is no such argument.
    """
    from otx_xai.data.datamodule import OTXDataModule

    try:
        return OTXDataModule(root, task, **arguments)
    except TypeError as error:
        raise ConfigError(f"The arguments of the data do not fit: {error}. `otx train --help` lists them.") from error
