"""The engine: one method a job, each a list of stages."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from otx_xai.data import search_images
from otx_xai.engine.explaining import (
    Images,
    begin_run,
    check_labels,
    images_of,
    named_as_data,
    open_session,
    reconcile,
    save_explained,
)
from otx_xai.engine.workspace import audit_run, explain_run, named_folder, new_run, newest_checkpoint
from otx_xai.errors import ConfigError
from otx_xai.explain.insertion import split_layers
from otx_xai.explain.plan import How, plan
from otx_xai.explain.run import ExplainRun
from otx_xai.methods.table import method_name
from otx_xai.model import Model, ModelOptions, open_model
from otx_xai.options import read_word
from otx_xai.recipe import override, read_recipe
from otx_xai.records import (
    ExplainConfig,
    ExplainMode,
    InputOptions,
    JudgedClass,
    Labels,
    Method,
    Preset,
    Targets,
    Task,
    Weights,
)
from otx_xai.report import locked
from otx_xai.report.manifest import write_config
from otx_xai.settings import AuditConfig, AuditSettings, ExplainSettings, JudgeSettings, RunSettings, absolute

if TYPE_CHECKING:
    from torch import nn

    from otx_xai.audit.audit_result import Audit
    from otx_xai.data.datamodule import OTXDataModule
    from otx_xai.export import ExportReport
    from otx_xai.judging import Judgement
    from otx_xai.models import OTXModel

logger = logging.getLogger("otx_xai")

DataT = TypeVar("DataT")


class Engine:
    """Runs the jobs of a model: train, test, predict, export, explain, judge, audit.

    Every job but two writes into a folder of its own, ``<work_dir>/<timestamp>``, which ``<work_dir>/.latest/<job>``
    links to; explaining and auditing write into ``work_dir`` itself, so that they can be resumed.

    Args:
        model: what is trained: a model of :mod:`otx_xai.models`, the name of an architecture, or what a recipe says of
            one (``class_path`` and ``init_args``). To be explained, also any ``nn.Module`` or LightningModule, and the
            class of a checkpoint as ``package.module:Class``.
        datamodule: images and their annotations, where a method is not given any.
        task: what the model does, where it does not tell.
        work_dir: folder of results; ``otx-workspace`` by default.
        checkpoint: model file, where a method is not given one; the newest one that was trained in ``work_dir`` by
            default.
        device: OpenVINO device for explaining: ``CPU``, ``GPU``, ``NPU``, ``AUTO``, …; training runs on what
            Lightning's ``accelerator`` says, ``auto`` by default.
        data_root: images, where a method is not given any.
        trainer_arguments: of Lightning's ``Trainer``: ``max_epochs``, ``callbacks``, ``logger``, …

    Raises:
        ConfigError: there is no such task, or the name of the folder is empty.
    """

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
    def from_config(cls, recipe: str | Path, data_root: str | Path | None = None, **overrides: Any) -> Engine:
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
        trainer = dict(content.get("trainer") or {})
        data = dict(content.get("data") or {})
        datamodule = _make_datamodule(data_root, task, data) if data_root is not None else None
        return cls(content.get("model"), datamodule, task, data_root=data_root, **own, **trainer)

    # -----------------------------------------------------------------------------------------------------------------
    # Training

    def train(
        self,
        datamodule: OTXDataModule | None = None,
        *,
        data_root: str | Path | None = None,
        checkpoint: str | Path | None = None,
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

    # -----------------------------------------------------------------------------------------------------------------
    # Explaining

    def explain(
        self,
        checkpoint: str | Path | None = None,
        datamodule: OTXDataModule | None = None,
        explain_config: ExplainConfig | None = None,
        dump: bool = False,
        *,
        data_root: str | Path | None = None,
        labels: Labels = None,
        output: str | None = None,
        format: str | None = None,
        weights: Weights | str | None = None,
        input: InputOptions | None = None,
        explain_mode: ExplainMode | str = ExplainMode.AUTO,
        explain_method: Method | str | None = None,
        target_layer: str | None = None,
        targets: Targets = None,
        preset: Preset | str | None = None,
        num_masks: int | None = None,
        tolerance: float | None = None,
        batch_size: int = 1,
        output_model: str | Path | None = None,
        resume: bool = True,
        seed: int = 0,
        num_steps: int | None = None,
        noise: float | None = None,
        keep_explanations: bool = True,
        **trainer_kwargs: Any,
    ) -> ExplainRun:
        """Explain every image: read, infer, choose the classes, write.

        Writes ``predictions.jsonl`` (a line an image), ``run.json`` (settings, versions, counts, failures) and
        ``config.yaml`` (what ``otx explain --config`` repeats the run with) into the work directory, and with ``dump``
        the pictures below ``saliency_map``. An interrupted run goes on where it stopped when it is called again with
        the same settings.

        Args:
            checkpoint: model file: ``.xml``, ``.onnx``, ``.tflite``; or ``.ckpt``, ``.pth``, ``.pt``, ``.safetensors``,
                which are exported first.
            datamodule: images: an OTXDataModule, or anybody's LightningDataModule or DataLoader. Floating point tensors
                of the latter count as normalised, and are fed as they are; the pictures below the maps are recovered
                with the model's (or ``input``'s) mean and scale, or by stretching the range of the tensor.
            explain_config: which maps, and which pictures of them.
            dump: write pictures. Without it the result holds the explanations.
            data_root: images: a folder (recursive), one image, a list file, or a glob pattern.
            labels: class names: a file with one a line, or ``a,b,c``, where the model does not tell.
            output: the output that is explained, by name or number, where a classifier has several.
            format: how the outputs of a detector spell boxes, by the name of a row of
                :data:`otx_xai.model.formats.choice.BOX_FORMATS`, where graph and names leave it open.
            weights: of a torch checkpoint that holds both, ``ema``: averaged over training, the default, or ``raw``:
                those of the last step.
            input: what to feed the model, where it does not tell.
            explain_mode: ``whitebox``: a branch in the graph; ``blackbox``: perturbed images; ``auto``: the first where
                the analysis of the graph finds a place for it, else the second. Log and ``run.json`` tell.
            explain_method: ``reciprocam``, ``vitreciprocam``, ``multistridecam``, ``layercam``, ``gradcam``,
                ``hirescam``, ``integratedgradients``, ``smoothgrad``, ``detclassprobabilitymap``,
                ``instsegexplainalgo``, ``odam`` or ``activationmap``; ``rise``, ``guidedrise``, ``aise`` or ``drise``;
                chosen by task and graph by default.
            target_layer: layer to perturb, by name; found by default.
            targets: ``predicted`` (the default: classes above the threshold, the best one where none is), ``-1`` for
                all classes, ``boxes`` of a detector, class names or indices. Overrides
                ``explain_config.target_explain_group``.
            preset: ``speed``, ``balance`` or ``quality``. In auto mode classifiers are explained by a method of one
                pass (the default), by ``multistridecam`` in about two, or by ``guidedrise`` in about 60, where the
                graph allows it; detectors by ``odam``, a map of each box, with the latter two. Of other black-box
                methods it decides how many passes they take.
            num_masks: forward passes at most an image of RISE and D-RISE; the preset decides by default.
            tolerance: standard error of a map, as a part of its range, from which RISE and D-RISE end before.
            batch_size: images an inference, where the model leaves its batch open.
            output_model: also save the model with its ``saliency_map`` output (all classes) to this ``.xml``.
            resume: go on with an interrupted run of the same settings; else begin anew. A run that has explanations
                to return always begins anew.
            seed: of the masks of RISE and D-RISE, and of the noise of SmoothGrad.
            num_steps: gradients an image of ``integratedgradients`` (50 by default) and ``smoothgrad`` (25).
            noise: standard deviation of SmoothGrad's noise, as a part of the image's range; 0.15 by default.
            keep_explanations: without ``dump``, return the explanations. Their memory grows with the number of images.
            trainer_kwargs: accepted for the sake of OTX scripts; inference runs in OpenVINO.

        Returns:
            What was done.

        Raises:
            OtxXaiError: see :mod:`otx_xai.errors`; an image that fails is counted and does not end the run. The first
                Ctrl-C is no error either: the run ends after the images on their way, and the result says so.
        """
        if trainer_kwargs:
            logger.warning("%s: not used, explaining runs in OpenVINO.", ", ".join(trainer_kwargs))
        settings = ExplainSettings(
            checkpoint=checkpoint or self.checkpoint,
            model=self._architecture(),
            output=output,
            format=format,
            weights=read_word(Weights, weights),
            labels=labels,
            task=self.task,
            device=self.device,
            batch_size=batch_size,
            output_model=output_model,
            input=input or InputOptions(),
            data_root=data_root,
            targets=targets,
            explain_method=method_name(explain_method),
            target_layer=target_layer,
            explain_mode=ExplainMode(explain_mode),
            preset=read_word(Preset, preset),
            num_masks=num_masks,
            tolerance=tolerance,
            seed=seed,
            num_steps=num_steps,
            noise=noise,
            work_dir=self.work_dir,
            dump=dump,
            explain_config=explain_config or ExplainConfig(),
            resume=resume,
        )
        return self._explain(settings, datamodule, keep=keep_explanations and not dump)

    def judge(
        self,
        checkpoint: str | Path | None = None,
        datamodule: OTXDataModule | None = None,
        *,
        data_root: str | Path | None = None,
        methods: str | Sequence[str] | None = None,
        images: int = 50,
        judged: JudgedClass | str = JudgedClass.PREDICTED,
        steps: int = 50,
        sanity: bool = False,
        labels: Labels = None,
        output: str | None = None,
        format: str | None = None,
        weights: Weights | str | None = None,
        input: InputOptions | None = None,
        confidence_threshold: float | None = None,
        target_layer: str | None = None,
        preset: Preset | str | None = None,
        num_masks: int | None = None,
        tolerance: float | None = None,
        batch_size: int = 1,
        seed: int = 0,
        num_steps: int | None = None,
        noise: float | None = None,
    ) -> Judgement:
        """Say how good the maps of several methods are, side by side on the same images.

        Writes ``judge.json`` and ``judge.png`` into a folder of its own, ``<work_dir>/<timestamp>``. Judged are maps
        of one class an image, or of one box: that which the model is surest of. Memory does not grow with the number
        of images, but for some numbers each.

        Args:
            checkpoint: as of :meth:`explain`.
            datamodule: images as pictures (``uint8``), and their annotations.
            data_root: images, as of :meth:`explain`, or a data set in any layout that
                :class:`otx_xai.OTXDataModule` recognises; its boxes are what maps of classes are held against.
            methods: names, a sequence or with commas between; by default all white boxes that fit the model, and the
                method that ``explain_mode`` auto takes.
            images: number of images, spread evenly over all that are found; all where there are fewer.
            judged: ``predicted``, or ``truth``: of a classifier, the class of the annotations.
            steps: of insertion and deletion: with ``M`` methods an image takes ``6 + (M + 2) * (4 * steps - 3)``
                forward passes besides what methods take.
            sanity: also compare the maps of 8 of the images with those of the same network with random weights, and
                with those of another class.
            labels: as of :meth:`explain`, and the next four.
            output: see there.
            format: see there.
            weights: see there.
            input: see there.
            confidence_threshold: score from which a box counts as found.
            target_layer: of the white-box methods.
            preset: see :meth:`explain`; like the next two, it is told the black-box methods that have it.
            num_masks: see :meth:`explain`.
            tolerance: see :meth:`explain`.
            batch_size: images an inference, where the model leaves its batch open.
            seed: of masks, of the random control, and of random weights.
            num_steps: see :meth:`explain`.
            noise: see :meth:`explain`.

        Returns:
            What was found, which prints as a table.

        Raises:
            OtxXaiError: see :mod:`otx_xai.errors`; an image that fails is counted and does not end the run. The first
                Ctrl-C is no error either: the result is of the images that were judged before.
        """
        settings = JudgeSettings(
            checkpoint=checkpoint or self.checkpoint,
            model=self._architecture(),
            output=output,
            format=format,
            weights=read_word(Weights, weights),
            labels=labels,
            task=self.task,
            device=self.device,
            batch_size=batch_size,
            input=input or InputOptions(),
            data_root=data_root,
            target_layer=target_layer,
            preset=read_word(Preset, preset),
            num_masks=num_masks,
            tolerance=tolerance,
            seed=seed,
            num_steps=num_steps,
            noise=noise,
            work_dir=self.work_dir,
            methods=methods,
            images=images,
            judged=JudgedClass(judged),
            steps=steps,
            sanity=sanity,
            confidence_threshold=confidence_threshold,
        )
        return self._judge(settings, datamodule)

    def _judge(self, settings: JudgeSettings, datamodule: Any) -> Judgement:
        from otx_xai.engine import judge_job

        judge_job.check_methods(settings)
        source = self._source(settings.checkpoint)
        data = self._given(datamodule, settings.data_root, judge_job.data_at, judge_job.data_of)
        options = self._model_options(settings, data.images, settings.confidence_threshold)
        model = named_as_data(open_model(source, options, batch=settings.batch_size), data.images.labels)
        return judge_job.run_trial(new_run(self.work_dir, "judge"), model, settings, data)

    # -----------------------------------------------------------------------------------------------------------------
    # Auditing

    def audit(
        self,
        checkpoint: str | Path | None = None,
        datamodule: OTXDataModule | None = None,
        audit_config: AuditConfig | None = None,
        *,
        data_root: str | Path | None = None,
        baseline: str | Path | None = None,
        baseline_input: InputOptions | None = None,
        fail_on: str | Sequence[str] | None = None,
        review: str | Path | None = None,
        labels: Labels = None,
        output: str | None = None,
        format: str | None = None,
        weights: Weights | str | None = None,
        input: InputOptions | None = None,
        explain_method: Method | str | None = None,
        target_layer: str | None = None,
        preset: Preset | str | None = None,
        num_masks: int | None = None,
        tolerance: float | None = None,
        batch_size: int = 1,
        resume: bool = True,
        dry_run: bool = False,
        seed: int = 0,
        num_steps: int | None = None,
        noise: float | None = None,
    ) -> Audit:
        """Say what is wrong with a model or its data: evidence of all images, findings, checks, a verdict, a page.

        Writes the page ``audit/index.html`` into the work directory, and beside it ``audit.json``, ``findings.jsonl``,
        ``images.parquet``, ``label_review.csv``, ``summary.md``, ``junit.xml`` and the evidence; and ``audit.yaml``,
        what ``otx audit --config`` repeats it with, into the work directory itself. An interrupted audit goes on where
        it stopped when it is called again with the same settings.

        Args:
            checkpoint: as of :meth:`explain`.
            datamodule: images as pictures (``uint8``), and their annotations.
            data_root: images, or a data set in any layout that :class:`otx_xai.OTXDataModule` recognises. Without
                annotations all is asked that needs none.
            audit_config: how many images, how many of them in checks, what the page holds, and the like.
            baseline: another model of the same classes, such as the one before quantisation: what changed from it.
            baseline_input: what to feed the baseline, where it does not tell; of ``input`` what is not said here.
            fail_on: conditions under which :attr:`~otx_xai.audit.audit_result.Audit.exit_code` is 8: kinds of findings
                (``verified_shortcut``), figures with a limit (``accuracy=0.9``), several with commas between. A limit
                is compared with the pessimistic end of the interval.
            review: a ``label_review.csv`` whose last column a person filled: these labels count instead of the data's.
            labels: as of :meth:`explain`, and the next four.
            output: see there.
            format: see there.
            weights: see there.
            input: see there.
            explain_method: what makes the maps; chosen by default.
            target_layer: of the white-box methods.
            preset: see :meth:`explain`, and the next two.
            num_masks: see :meth:`explain`.
            tolerance: see :meth:`explain`.
            batch_size: images an inference, where the model leaves its batch open.
            resume: go on with an interrupted audit of the same settings.
            dry_run: only tell, in :attr:`~otx_xai.audit.audit_result.Audit.notes`, how long it would take and how much
                it would write.
            seed: of whatever is drawn by lot.
            num_steps: see :meth:`explain`.
            noise: see :meth:`explain`.

        Returns:
            What was found, which prints as a summary.

        Raises:
            OtxXaiError: see :mod:`otx_xai.errors`; an image that fails is counted and does not end the audit. The first
                Ctrl-C is no error either: what was looked at is kept.
        """
        settings = AuditSettings(
            **vars(audit_config or AuditConfig()),
            checkpoint=checkpoint or self.checkpoint,
            model=self._architecture(),
            output=output,
            format=format,
            weights=read_word(Weights, weights),
            labels=labels,
            task=self.task,
            device=self.device,
            batch_size=batch_size,
            input=input or InputOptions(),
            data_root=data_root,
            target_layer=target_layer,
            preset=read_word(Preset, preset),
            num_masks=num_masks,
            tolerance=tolerance,
            seed=seed,
            num_steps=num_steps,
            noise=noise,
            work_dir=self.work_dir,
            baseline=baseline,
            baseline_input=baseline_input or InputOptions(),
            explain_method=method_name(explain_method),
            fail_on=fail_on,
            review=review,
            dry_run=dry_run,
            resume=resume,
        )
        return self._audit(settings, datamodule)

    def _audit(self, settings: AuditSettings, datamodule: Any) -> Audit:
        from otx_xai.engine import audit_job, judge_job

        audit_job.check_settings(settings)
        source = self._source(settings.checkpoint)
        data = self._given(datamodule, settings.data_root, judge_job.data_at, judge_job.data_of)

        def opened(one: Any, told: AuditSettings) -> Model:
            options = self._model_options(told, data.images, told.confidence_threshold)
            return named_as_data(open_model(one, options, batch=told.batch_size), data.images.labels)

        model, baseline = opened(source, settings), None
        if settings.baseline is not None:
            baseline = audit_job.open_baseline(settings, opened)
        work_dir = audit_run(self.work_dir)
        folder = audit_job.folder_in(work_dir)
        with locked(folder):
            audit_job.remember(replace(settings, data_root=data.images.root or None, work_dir=work_dir))
            return audit_job.run_audit(folder, settings, model, baseline, data)

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

    def _explain(self, settings: ExplainSettings, datamodule: Any, *, keep: bool) -> ExplainRun:
        config, (method, wanted) = settings.explain_config, reconcile(settings)
        source = self._source(settings.checkpoint)
        data = self._given(datamodule, settings.data_root, _images_at, images_of)
        layers = split_layers(settings.target_layer)
        options = self._model_options(settings, data, config.confidence_threshold)
        model = named_as_data(open_model(source, options, batch=settings.batch_size), data.labels)
        how = How(settings.explain_mode, method, settings.target_layer, settings.of_method())
        planned = plan(model, how, targets=wanted, threshold=config.predicted_maps_conf_thr)
        session = open_session(planned, settings.device, normalised=data.normalised)
        work_dir = explain_run(self.work_dir)
        named = source if isinstance(source, Path) else None
        found = replace(settings, checkpoint=named, data_root=data.root, work_dir=work_dir)
        with locked(work_dir):
            if settings.output_model is not None:
                said = replace(options, task=planned.facts.task)
                saved = Path(settings.output_model).expanduser()
                save_explained(source, said, planned, layers, saved, method=method)
            run = begin_run(work_dir, found, planned, session, model.digest, data, keep=keep)
            return run.execute(session, resume=settings.resume and not keep and data.loader is None)

    def _source(self, checkpoint: str | Path | None) -> Any:
        """Return what is explained: the file that is named, else the module in hand, else the newest of training."""
        in_hand = callable(getattr(self.model, "state_dict", None)) and not self._has_trained
        if in_hand and not (checkpoint or self.checkpoint):
            return self.model
        return self._checkpoint(checkpoint)

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
        file = self._checkpoint(checkpoint)
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

    def _architecture(self) -> str | None:
        """Return the name of the architecture that the engine, or its recipe, was given."""
        if isinstance(self.model, Mapping):
            return (self.model.get("init_args") or {}).get("architecture")
        return self.model if isinstance(self.model, str) else None

    def _specified(self) -> Any:
        if self.model is None:
            raise ConfigError(
                "No model was given to train; expected the name of an architecture or a recipe. Pass --config NAME "
                "(`otx find` lists recipes), or --model."
            )
        return self.model

    def _checkpoint(self, checkpoint: str | Path | None) -> Path:
        chosen = checkpoint or self.checkpoint
        return Path(chosen).expanduser() if chosen else newest_checkpoint(self.work_dir)

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
        return _make_datamodule(root, self.task, {})

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


def _images_at(root: str | Path) -> Images:
    found = search_images(root)
    return Images(found.images, absolute(root), not_read=found.not_read)


def _is_plain(name: str) -> bool:
    """Whether an override without a dot is meant for the trainer."""
    return "." not in name and name not in ("model", "data", "trainer", "task")


def _make_datamodule(root: str | Path, task: Task | str | None, arguments: Mapping[str, Any]) -> OTXDataModule:
    from otx_xai.data.datamodule import OTXDataModule

    try:
        return OTXDataModule(root, task, **arguments)
    except TypeError as error:
        raise ConfigError(f"The arguments of the data do not fit: {error}. `otx train --help` lists them.") from error


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
