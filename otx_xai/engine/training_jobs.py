"""The jobs of an engine that train a model, and run or export what was trained."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from otx_xai.engine.engine_state import EngineState, make_datamodule
from otx_xai.engine.explaining import check_labels
from otx_xai.engine.workspace import new_run
from otx_xai.errors import ConfigError
from otx_xai.model.stored_model import fetch_model
from otx_xai.options import read_word
from otx_xai.records import InputOptions, Labels, Weights
from otx_xai.report.manifest import write_config
from otx_xai.settings import absolute
from otx_xai.storage import Url

if TYPE_CHECKING:
    from otx_xai.data.datamodule import OTXDataModule
    from otx_xai.export import ExportReport
    from otx_xai.models import OTXModel

logger = logging.getLogger("otx_xai")


class TrainingJobs(EngineState):
    """Train, test, predict, export."""

    def train(
        self,
        datamodule: OTXDataModule | None = None,
        *,
        data_root: str | Path | None = None,
        checkpoint: str | Path | None = None,
        start_from: str | Path | None = None,
        seed: int = 0,
        **trainer_arguments: Any,
    ) -> dict[str, float]:
        """Train the model.

        Writes ``best.ckpt`` (of the epoch with the best validation score), ``last.ckpt``, ``metrics.csv`` and
        ``metrics.json``, and ``config.yaml``. Checkpoints hold all that is needed to use them.

        Args:
            datamodule: images and annotations.
            data_root: or where they are, in any layout that :class:`otx_xai.OTXDataModule` recognises.
            checkpoint: a Lightning checkpoint to go on from.
            start_from: ``.ckpt`` or ``.pth`` of another model, such as the classifier that a detector's backbone is: a
                new run begins with its weights where name and shape fit.
            seed: of weights, order and augmentation.
            trainer_arguments: override those of the engine.

        Returns:
            The metrics of the last epoch, name → value.

        Raises:
            OtxXaiError: the data, the model or an argument does not fit.
            KeyboardInterrupt: Ctrl-C; ``last.ckpt`` holds the last whole epoch.
        """
        from otx_xai.engine import training

        training.seed_everything(seed)
        data = self._annotated(datamodule, data_root)
        model = training.build(self._specified(), self.task, data.labels)
        check_labels(model.labels, data.labels)
        if start_from is not None:
            training.take_over(model, start_from)
        data.fit_to(model.geometry)
        run = new_run(self.work_dir, "train")
        arguments = self.trainer_arguments | trainer_arguments
        write_config(run, _training_config(model, data, arguments, seed))
        with training.lightning_manners():
            trainer = training.make_trainer(run, arguments, monitor=training.monitored(model))
            trainer.fit(model, datamodule=data, ckpt_path=checkpoint)
        if trainer.interrupted:
            raise KeyboardInterrupt
        self.model, self.datamodule, self._has_trained = model, data, True
        metrics = training.metrics_of(trainer)
        training.write_metrics(run, metrics)
        logger.info("Trained %s; checkpoints are in %s.", model.architecture, run)
        return metrics

    def test(
        self,
        checkpoint: str | Path | None = None,
        datamodule: OTXDataModule | None = None,
        *,
        data_root: str | Path | None = None,
        **trainer_arguments: Any,
    ) -> dict[str, float]:
        """Measure a checkpoint on the test part of the data, and write ``metrics.json``.

        Args:
            checkpoint: ``.ckpt`` or ``.pth``; the newest of ``work_dir`` by default.
            datamodule: images and annotations.
            data_root: or where they are.
            trainer_arguments: override those of the engine.

        Returns:
            Metrics, name → value.

        Raises:
            OtxXaiError: the data, the checkpoint or an argument does not fit.
        """
        from otx_xai.engine import training

        model = self._loaded(checkpoint)
        data = self._annotated(datamodule, data_root)
        check_labels(model.labels, data.labels)
        data.fit_to(model.geometry)
        run = new_run(self.work_dir, "test")
        with training.lightning_manners():
            trainer = training.make_trainer(run, self.trainer_arguments | trainer_arguments)
            trainer.test(model, datamodule=data, verbose=False)
        metrics = training.metrics_of(trainer)
        training.write_metrics(run, metrics)
        return metrics

    def predict(
        self,
        checkpoint: str | Path | None = None,
        datamodule: OTXDataModule | None = None,
        *,
        data_root: str | Path | None = None,
        **trainer_arguments: Any,
    ) -> list[dict[str, Any]]:
        """Predict all images of the data, and write ``predictions.jsonl``.

        Args:
            checkpoint: ``.ckpt`` or ``.pth``; the newest of ``work_dir`` by default.
            datamodule: images; annotations are not needed.
            data_root: or where they are.
            trainer_arguments: override those of the engine.

        Returns:
            One dict an image, in the order of the images: ``scores`` ``(K,)`` of a classifier; ``boxes`` ``(M, 4)`` in
            pixels of the original image, ``labels`` and ``scores`` of a detector, and its ``masks`` over the input.

        Raises:
            OtxXaiError: the data, the checkpoint or an argument does not fit.
        """
        from otx_xai.engine import training

        model = self._loaded(checkpoint)
        data = self._annotated(datamodule, data_root)
        data.fit_to(model.geometry)
        run = new_run(self.work_dir, "predict")
        with training.lightning_manners():
            trainer = training.make_trainer(run, self.trainer_arguments | trainer_arguments)
            batches = trainer.predict(model, dataloaders=data.predict_dataloader())
        predictions = [prediction for batch in batches for prediction in training.per_image(batch, model.geometry)]
        training.write_predictions(run / "predictions.jsonl", data.images(), predictions, model.labels)
        return predictions

    def export(
        self,
        checkpoint: str | Path | None = None,
        *,
        export_format: Literal["openvino", "onnx"] = "openvino",
        precision: Literal["fp32", "fp16"] = "fp32",
        explain: bool = False,
        batch: int | None = None,
        labels: Labels = None,
        input: InputOptions | None = None,
        weights: Weights | str | None = None,
    ) -> ExportReport:
        """Export a checkpoint to OpenVINO IR or ONNX, and compare what was written with torch.

        Args:
            checkpoint: ``.ckpt`` or ``.pth``; the newest of ``work_dir`` by default.
            export_format: ``openvino`` or ``onnx``.
            precision: of the weights in the file, ``fp32`` or ``fp16``.
            explain: put the saliency branch in.
            batch: number of images of an inference; by default open for classifiers, 1 for detectors.
            labels: class names, where the checkpoint does not tell.
            input: what to feed the model, where the checkpoint does not tell.
            weights: of a checkpoint that holds both, ``ema``: averaged over training, the default, or ``raw``.

        Returns:
            Where the file is, and how far it is from torch.

        Raises:
            OtxXaiError: the checkpoint or an argument does not fit, or the file cannot be written.
        """
        from otx_xai.export import export_model

        model = self._loaded(checkpoint, labels, input, read_word(Weights, weights))
        run = new_run(self.work_dir, "export")
        return export_model(model, run, export_format=export_format, precision=precision, batch=batch, explain=explain)

    def _loaded(
        self,
        checkpoint: str | Path | None,
        labels: Labels = None,
        options: InputOptions | None = None,
        weights: Weights | None = None,
    ) -> OTXModel:
        """Return the model of a torch checkpoint; the one in hand where none is named and none was trained."""
        from otx_xai.checkpoints import load_checkpoint
        from otx_xai.models import OTXModel

        if isinstance(self.model, OTXModel) and not (checkpoint or self.checkpoint):
            return self.model
        place = self._checkpoint(checkpoint)
        file = fetch_model(place) if isinstance(place, Url) else place
        if file.suffix.lower() in (".xml", ".onnx", ".tflite"):
            raise ConfigError(
                f"{file} is no torch checkpoint; expected a .ckpt or .pth file. A model in OpenVINO's formats can be "
                "explained, not trained, tested or exported again."
            )
        named = self.model if isinstance(self.model, str) else None
        return load_checkpoint(
            file,
            model=named,
            default_model=self._architecture(),
            task=self.task,
            labels=labels,
            options=options,
            weights=weights,
        )

    def _specified(self) -> Any:
        if self.model is None:
            raise ConfigError(
                "No model was given to train; expected the name of an architecture or a recipe. Pass --config NAME "
                "(`otx find` lists recipes), or --model."
            )
        return self.model

    def _annotated(self, datamodule: OTXDataModule | None, data_root: str | Path | None) -> OTXDataModule:
        """Return the data of a job: what the call was given outranks what the engine was made with."""
        if datamodule is not None:
            return datamodule
        if data_root is None and self.datamodule is not None:
            return self.datamodule
        root = data_root or self.data_root
        if root is None:
            raise ConfigError(
                "No data was given; expected a folder of images and annotations. Pass it as --data_root, or pass an "
                "OTXDataModule."
            )
        return make_datamodule(root, self.task, {})


def _training_config(model: OTXModel, data: Any, arguments: Mapping[str, Any], seed: int) -> dict[str, Any]:
    """Return a recipe that repeats a training run; objects given in Python are left out."""
    description = model.description()
    plain = {name: value for name, value in arguments.items() if isinstance(value, str | int | float | bool)}
    return {
        "task": model.task.value,
        "model": {"class_path": f"otx_xai.models.{description['class']}", "init_args": description["init"]},
        "data": getattr(data, "settings", None),
        "trainer": plain,
        "data_root": absolute(data.data_root),
        "seed": seed,
    }
