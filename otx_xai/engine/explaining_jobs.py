"""The job of an engine that explains many images."""

from __future__ import annotations

import logging
from dataclasses import replace
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from otx_xai.audit.audit_result import FOLDER
from otx_xai.engine.engine_state import EngineState, images_at
from otx_xai.engine.explaining import (
    Opened,
    begin_run,
    images_of,
    named_as_data,
    open_session,
    reconcile,
    save_explained,
)
from otx_xai.engine.spreading import refuse_what_is_not_spread, whole, workplace
from otx_xai.engine.workspace import explain_run, named_folder, written_to
from otx_xai.errors import ConfigError
from otx_xai.explain.insertion import split_layers
from otx_xai.explain.plan import How, plan
from otx_xai.explain.run import ExplainRun
from otx_xai.model import open_model
from otx_xai.records import (
    Decode,
    ExplainConfig,
    ExplainMode,
    InputOptions,
    Labels,
    Method,
    Pack,
    Precision,
    Preset,
    RayOptions,
    Targets,
    Weights,
    read_shard,
)
from otx_xai.report import locked
from otx_xai.settings import ExplainSettings
from otx_xai.shards.merging import merge_parts
from otx_xai.shards.shard_plan import has_plan, read_plan
from otx_xai.shards.shard_run import Workplace, explain_shard
from otx_xai.storage import Url, place_of

if TYPE_CHECKING:
    from otx_xai.data.datamodule import OTXDataModule

logger = logging.getLogger("otx_xai")


class ExplainingJobs(EngineState):
    """Explain."""

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
        precision: Precision | str = Precision.F32,
        batch_size: int = 1,
        decode: Decode | str = Decode.EXACT,
        output_model: str | Path | None = None,
        pack: Pack | str | None = None,
        pack_size: int = 512,
        resume: bool = True,
        seed: int = 0,
        num_steps: int | None = None,
        noise: float | None = None,
        shard: str | None = None,
        shard_size: int = 512,
        ray: RayOptions | str | None = None,
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
            explain_method: name of a row of :data:`otx_xai.methods.table.METHODS`, see
                :class:`~otx_xai.records.Method`; chosen by task and graph by default.
            target_layer: layer to perturb, by name; found by default.
            targets: ``predicted`` (the default: classes above the threshold, the best one where none is), ``-1`` for
                all classes, ``boxes`` of a detector, class names or indices. Overrides
                ``explain_config.target_explain_group``.
            preset: ``speed``, ``balance`` or ``quality``. In auto mode classifiers are explained by a method of one
                pass, by ``multistridecam`` in about two (the default, where an image has up to five targets), or by
                ``guidedrise`` in about 60, where the graph allows it; detectors in one pass, by ``odam`` (the default,
                of single boxes where one costs a fraction of a pass), or ``guideddrise``. Of other black-box methods it
                decides how many passes they take.
            num_masks: forward passes at most an image of RISE and D-RISE; the preset decides by default.
            tolerance: standard error of a map, as a part of its range, from which RISE and D-RISE end before.
            precision: numbers that the device computes with: ``f32``, ``bf16`` or ``f16``; ``auto`` explains the first
                16 images both ways, and takes fewer bits where every map correlates to 0.99 with that of float32, every
                best class is the same, and it is faster. ``run.json`` tells what was measured.
            batch_size: images an inference, where the model leaves its batch open.
            decode: ``exact``, or ``fast``: JPEGs of which network and pictures need a half, a quarter or an eighth at
                most are decoded in that size, where the network's resize averages (bilinear, bicubic, …).
            output_model: also save the model with its ``saliency_map`` output (all classes) to this ``.xml``.
            pack: ``tar``: with ``dump``, put the pictures of every ``pack_size`` images into one file, which WebDataset
                reads; its lines in the journal tell which (``pack``).
            pack_size: images of such a file.
            resume: go on with an interrupted run of the same settings; else begin anew. A run that has explanations
                to return always begins anew.
            seed: of the masks of RISE and D-RISE, and of the noise of SmoothGrad.
            num_steps: gradients an image of ``integratedgradients`` (50 by default) and ``smoothgrad`` (25).
            noise: standard deviation of SmoothGrad's noise, as a part of the image's range; 0.15 by default.
            shard: ``K/N``: explain only the K-th of N parts, which :meth:`merge` puts together when all are done. Any
                number of processes, on machines that see the same ``work_dir``, may explain different shards at once.
            shard_size: images a shard at most, with ``ray``.
            ray: explain on a cluster of Ray: ``auto``, ``local`` or ``HOST:PORT``, or options that also say how many
                processes of how many cores. Shards are merged at the end; a run that was interrupted goes on. Needs
                ``pip install otx-xai[ray]``.
            keep_explanations: without ``dump``, return the explanations. Their memory grows with the number of images.
            trainer_kwargs: accepted for the sake of OTX scripts; inference runs in OpenVINO.

        Returns:
            What was done.

        Raises:
            OtxXaiError: see :mod:`otx_xai.errors`; an image that fails is counted and does not end the run. The first
                Ctrl-C is no error either: the run ends after the images on their way, and the result says so.
        """
        settings = self._settings(ExplainSettings, locals())
        if trainer_kwargs:
            logger.warning("%s: not used, explaining runs in OpenVINO.", ", ".join(trainer_kwargs))
        if shard is not None:
            return self._explain_shard(settings, datamodule)
        if settings.ray.address is not None:
            return self._explain_on_ray(settings, datamodule)
        return self._explain(settings, datamodule, keep=keep_explanations and not dump)

    def merge(self, work_dir: str | Path | None = None) -> ExplainRun:
        """Put the shards of a run together: ``predictions.jsonl``, ``run.json`` and ``config.yaml``.

        They are byte for byte those of a run of one process, apart from times. Of an audit it is the evidence that is
        put together, which :meth:`audit` does as well before it concludes.

        Args:
            work_dir: folder of the run, or of an audit; that of the engine by default.

        Raises:
            ConfigError: there is no folder.
            MissingPartsError: shards are not done; the error names them.
            OutputError: there is no plan, a part is broken, or a file cannot be written.
        """
        folder = named_folder(work_dir) or self.work_dir
        if folder is None:
            raise ConfigError("No work_dir was given; expected the folder of a run in shards.")
        if not has_plan(folder) and has_plan(folder / FOLDER):
            folder = folder / FOLDER
        if has_plan(folder) and read_plan(folder).told["command"] == "audit":
            from otx_xai.shards.evidence_merging import merge_audit  # needs what only audits do

            return merge_audit(folder)
        return merge_parts(folder)

    def _explain_shard(self, settings: ExplainSettings, datamodule: Any) -> ExplainRun:
        number, shards = read_shard(settings.shard or "")
        work_dir = refuse_what_is_not_spread(settings, self.work_dir)
        opened = self._open(replace(whole(settings), work_dir=str(work_dir)), datamodule)
        return explain_shard(workplace(opened, work_dir, shards), number, resume=settings.resume)

    def _explain_on_ray(self, settings: ExplainSettings, datamodule: Any) -> ExplainRun:
        from otx_xai.engine.ray_job import explain_on_ray, spread_by_ray

        work_dir = refuse_what_is_not_spread(settings, self.work_dir)
        if datamodule is None and settings.data_root is None:
            settings = replace(settings, data_root=self.data_root)
        return explain_on_ray(spread_by_ray(settings, work_dir, self._source(settings.checkpoint)), work_dir)

    def workplace(self, settings: ExplainSettings, shard_size: int) -> Workplace:
        """Open and compile a model, and join the plan of a run in shards, or make it.

        Args:
            settings: of the whole run; ``work_dir`` is given.
            shard_size: images a shard at most.

        Raises:
            OtxXaiError: as of a run; and where the plan is of another one.
        """
        opened = self._open(settings, None)
        work_dir = refuse_what_is_not_spread(settings, self.work_dir)
        return workplace(opened, work_dir, max(1, ceil(len(opened.data.images) / shard_size)))

    def _open(self, settings: ExplainSettings, datamodule: Any) -> Opened:
        """Find the images, open the model, and compile what explains it."""
        config, (method, wanted) = settings.explain_config, reconcile(settings)
        source = self._source(settings.checkpoint)
        data = self._given(datamodule, settings.data_root, images_at, images_of)
        options = self._model_options(settings, data, config.confidence_threshold)
        model = named_as_data(open_model(source, options, batch=settings.batch_size), data.labels)
        how = How(settings.explain_mode, method, settings.target_layer, settings.of_method())
        planned = plan(model, how, targets=wanted, threshold=config.predicted_maps_conf_thr)
        session = open_session(planned, settings.device, settings.precision, normalised=data.normalised)
        named = source if isinstance(source, Path) else str(source) if isinstance(source, Url) else None
        written = config.of_task(planned.facts.task)
        found = replace(settings, checkpoint=named, data_root=data.root, explain_config=written)
        return Opened(found, options, source, planned, session, model.digest, data)

    def _explain(self, settings: ExplainSettings, datamodule: Any, *, keep: bool) -> ExplainRun:
        opened = self._open(settings, datamodule)
        work_dir = explain_run(self.work_dir)
        opened = replace(opened, settings=replace(opened.settings, work_dir=str(work_dir)))
        with locked(work_dir):
            if settings.output_model is not None:
                said = replace(opened.options, task=opened.planned.facts.task)
                layers, method = split_layers(settings.target_layer), reconcile(settings)[0]
                with written_to(place_of(settings.output_model)) as saved:
                    save_explained(opened.source, said, opened.planned, layers, saved, method=method)
            run, session = begin_run(work_dir, opened, keep=keep)
            return run.execute(session, resume=settings.resume and not keep and opened.data.loader is None)
