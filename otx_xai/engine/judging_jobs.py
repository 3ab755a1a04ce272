"""The jobs of an engine that judge: maps by other maps, and a model by all of its maps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from otx_xai.audit.audit_result import FOLDER
from otx_xai.engine.engine_state import EngineState
from otx_xai.engine.explaining import named_as_data
from otx_xai.engine.spreading import refuse_what_is_not_spread, whole
from otx_xai.engine.workspace import audit_run, new_run
from otx_xai.explain.run import ExplainRun
from otx_xai.model import Model, open_model
from otx_xai.records import (
    AuditConfig,
    Decode,
    InputOptions,
    JudgedClass,
    Labels,
    Method,
    Precision,
    Preset,
    RayOptions,
    Weights,
    read_shard,
)
from otx_xai.settings import AuditSettings, JudgeSettings
from otx_xai.shards.shard_run import Workplace, explain_shard

if TYPE_CHECKING:
    from otx_xai.audit.audit_result import Audit
    from otx_xai.data.datamodule import OTXDataModule
    from otx_xai.engine.audit_preparing import Prepared
    from otx_xai.judging import Judgement


class JudgingJobs(EngineState):
    """Judge, audit."""

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
        precision: Precision | str = Precision.F32,
        decode: Decode | str = Decode.EXACT,
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
            precision: see :meth:`explain`; ``auto`` decides by the default maps of the first images.
            decode: see :meth:`explain`.
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
        return self._judge(self._settings(JudgeSettings, locals()), datamodule)

    def _judge(self, settings: JudgeSettings, datamodule: Any) -> Judgement:
        from otx_xai.engine import judge_job

        judge_job.check_methods(settings)
        source = self._source(settings.checkpoint)
        data = self._given(datamodule, settings.data_root, judge_job.data_at, judge_job.data_of)
        options = self._model_options(settings, data.images, settings.confidence_threshold)
        model = named_as_data(open_model(source, options, batch=settings.batch_size), data.images.labels)
        return judge_job.run_trial(new_run(self.work_dir, "judge"), model, settings, data)

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
        precision: Precision | str = Precision.F32,
        decode: Decode | str = Decode.EXACT,
        batch_size: int = 1,
        resume: bool = True,
        dry_run: bool = False,
        seed: int = 0,
        num_steps: int | None = None,
        noise: float | None = None,
        shard: str | None = None,
        shard_size: int = 512,
        ray: RayOptions | str | None = None,
    ) -> Audit:
        """Say what is wrong with a model or its data: evidence of all images, findings, checks, a verdict, a page.

        Writes the page ``audit/index.html`` into the work directory, here or in a store, and beside it ``audit.json``,
        ``findings.jsonl``, ``images.parquet``, ``label_review.csv``, ``summary.md``, ``junit.xml`` and the evidence;
        and ``audit.yaml``, what ``otx audit --config`` repeats it with, into the work directory itself. An interrupted
        audit goes on where it stopped when it is called again with the same settings.

        Args:
            checkpoint: as of :meth:`explain`.
            datamodule: images and their annotations; or another data module or a loader, whose labels are read from
                its batches, ``(images, labels)``, as the model numbers its classes. Checks change pixels of files only.
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
            precision: see :meth:`explain`; ``auto`` decides by the default maps of the first images.
            decode: see :meth:`explain`; looks of images, such as sharpness, are those of what was decoded.
            batch_size: images an inference, where the model leaves its batch open.
            resume: go on with an interrupted audit of the same settings.
            dry_run: only tell, in :attr:`~otx_xai.audit.audit_result.Audit.notes`, how long it would take and how much
                it would write.
            seed: of whatever is drawn by lot.
            num_steps: see :meth:`explain`.
            noise: see :meth:`explain`.
            shard: ``K/N``: take only the evidence of the K-th of N parts of the images. When all are done, the same
                call without it concludes.
            shard_size: images a shard at most, with ``ray``.
            ray: take the evidence on a cluster of Ray, see :meth:`explain`, and conclude in this process.

        Returns:
            What was found, which prints as a summary.

        Raises:
            OtxXaiError: see :mod:`otx_xai.errors`; an image that fails is counted and does not end the audit. The first
                Ctrl-C is no error either: what was looked at is kept.
        """
        arguments = locals() | vars(audit_config or AuditConfig())
        return self._audit(self._settings(AuditSettings, arguments), datamodule)

    def _audit(self, settings: AuditSettings, datamodule: Any) -> Audit:
        from otx_xai.engine import audit_job, audit_preparing
        from otx_xai.engine.audit_place import remember, worked_in

        audit_preparing.check_settings(settings)
        if settings.shard is not None:
            return self._audit_shard(settings, datamodule)
        if settings.ray.address is not None:
            run = self._gather_on_ray(settings, datamodule)
            if run.interrupted:
                return audit_job.unfinished(run.work_dir, run, run.seconds)
            settings = whole(settings)
        prepared = self._prepared(settings, datamodule)
        work_dir = audit_run(self.work_dir)
        folder, root = work_dir / FOLDER, prepared.data.images.root
        with worked_in(folder, leaves=not settings.dry_run) as here:
            if not settings.dry_run:
                remember(replace(settings, data_root=root or None, work_dir=str(work_dir)), here, folder)
            return audit_job.run_audit(here, folder, settings, prepared)

    def _prepared(self, settings: AuditSettings, datamodule: Any) -> Prepared:
        """Find the images and what is known of them, and open the models."""
        from otx_xai.engine import audit_preparing, judge_job

        source = self._source(settings.checkpoint)
        data = self._given(
            datamodule, settings.data_root, judge_job.data_at, partial(judge_job.data_of, pictures=False)
        )

        def opened(one: Any, told: AuditSettings) -> Model:
            options = self._model_options(told, data.images, told.confidence_threshold)
            return named_as_data(open_model(one, options, batch=told.batch_size), data.images.labels)

        model, baseline = opened(source, settings), None
        if settings.baseline is not None:
            baseline = audit_preparing.open_baseline(settings, opened)
        return audit_preparing.prepare(settings, model, baseline, data)

    def _audit_shard(self, settings: AuditSettings, datamodule: Any) -> Audit:
        from otx_xai.engine.audit_job import part_of_audit
        from otx_xai.engine.evidence_shards import gathering

        number, shards = read_shard(settings.shard or "")
        folder = refuse_what_is_not_spread(settings, self.work_dir) / FOLDER
        prepared = self._prepared(settings, datamodule)
        place = gathering(prepared.looks(settings), folder, prepared.data.images, shards)
        run = explain_shard(place, number, resume=settings.resume)
        return part_of_audit(folder, f"{number} of {shards}", run)

    def _gather_on_ray(self, settings: AuditSettings, datamodule: Any) -> ExplainRun:
        from otx_xai.engine.ray_job import gather_on_ray, spread_by_ray

        work_dir = refuse_what_is_not_spread(settings, self.work_dir)
        if datamodule is None and settings.data_root is None:
            settings = replace(settings, data_root=self.data_root)
        return gather_on_ray(spread_by_ray(settings, work_dir, self._source(settings.checkpoint)), work_dir / FOLDER)

    def evidence_workplace(self, settings: AuditSettings, shard_size: int) -> Workplace:
        """Open and compile the models of an audit, and join the plan of its evidence in shards, or make it.

        Args:
            settings: of the whole audit; ``work_dir`` is given.
            shard_size: images a shard at most.

        Raises:
            OtxXaiError: as of an audit; and where the plan is of another one.
        """
        from otx_xai.engine.evidence_shards import gathering

        folder = refuse_what_is_not_spread(settings, self.work_dir) / FOLDER
        prepared = self._prepared(settings, None)
        images = prepared.data.images
        return gathering(prepared.looks(settings), folder, images, max(1, ceil(len(images.images) / shard_size)))
