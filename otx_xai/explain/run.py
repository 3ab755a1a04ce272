"""One explain run in one work directory: what is done already, what is streamed and written, what goes wrong."""

from __future__ import annotations

import logging
import time
from collections.abc import Container, Generator, Iterable, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from functools import partial
from threading import Event
from typing import Any

from tqdm import tqdm

from otx_xai.counting import are, counted, have
from otx_xai.errors import EXIT_INTERRUPTED, EXIT_PARTIAL, DataError, ImageError, OutputError
from otx_xai.explain.explanation import Explanation, map_keys
from otx_xai.explain.look import as_picture
from otx_xai.explain.plan import Plan
from otx_xai.explain.run_sources import ReadImage, Source, Sources, Tile, image_errors, subject_of
from otx_xai.explain.suspicion import Suspicion
from otx_xai.explain.targets import Choice
from otx_xai.perturb import Progress, Watch
from otx_xai.postprocess import to_uint8
from otx_xai.process import interruptible, one_thread_each, progress
from otx_xai.records import Decode, ExplainConfig, ImageInfo
from otx_xai.report import JOURNAL, ExplainedImage, Line, PlacedMaps, Results
from otx_xai.report.manifest import Manifest
from otx_xai.report.results import Recorder
from otx_xai.report.tar_shelf import Packing
from otx_xai.report.writer import needed_side
from otx_xai.runtime import Arrays, Session
from otx_xai.storage import Place

logger = logging.getLogger("otx_xai")

_STOPPING = "Stopping: images on their way are finished; Ctrl-C again ends at once."
_GIVING_UP = "Stopping: the image in hand is left to the next run; Ctrl-C again ends at once."


@dataclass(frozen=True)
class ExplainRun:
    """What a run did.

    Args:
        work_dir: where it wrote.
        images: number of images found.
        explained: number of images explained, those of an earlier, interrupted run included.
        resumed: number of these that an earlier run had explained.
        failures: images that could not be explained, name → reason.
        files: number of pictures and other files of images that were written.
        seconds: time it took.
        interrupted: whether it was stopped before the last image.
        explanations: one an image, in order, when nothing was dumped; the pictures in ``saliency_map`` are grey, at the
            network's resolution.
    """

    work_dir: Place
    images: int
    explained: int
    resumed: int
    failures: dict[str, str]
    files: int
    seconds: float
    interrupted: bool = False
    explanations: tuple[Explanation, ...] = field(default=(), repr=False)

    @property
    def exit_code(self) -> int:
        """What ``otx`` ends with; see :mod:`otx_xai.errors`."""
        if self.interrupted:
            return EXIT_INTERRUPTED
        if self.failures:
            return EXIT_PARTIAL if self.explained else DataError.exit_code
        return 0

    def summary(self) -> str:
        """Return a few lines of plain text."""
        rate = (self.explained - self.resumed) / self.seconds if self.seconds else 0.0
        lines = [
            f"Explained {self.explained} of {counted(self.images, 'image')} in {self.seconds:.1f} s "
            f"({rate:.1f} images/s), {counted(self.files, 'file')}, in {self.work_dir}"
        ]
        if self.resumed:
            lines.append(f"{self.resumed} of them by an earlier run that this one resumed.")
        if self.failures:
            lines.append(f"{len(self.failures)} failed; run.json says why.")
        if self.interrupted:
            lines.append("Interrupted: the same command goes on where this one stopped.")
        return "\n".join(lines)


class Run:
    """One run of many images.

    Args:
        work_dir: folder of the run, which exists.
        manifest: of this run.
        plan: what explains.
        config: what to write.
        images: all images of the run, in order.
        dump: write files of each image.
        keep: keep the explanations in memory, to return them.
        loader: gives the pixels of the images, in their order; they are read from their files by default.
        recorder: keeps more of each image than the journal.
        root: folder that the files of images go into; ``work_dir`` by default.
        packing: which images share a tar file; by default each file lies by itself.
        decode: how files of images are decoded.
    """

    def __init__(
        self,
        work_dir: Place,
        manifest: Manifest,
        plan: Plan,
        config: ExplainConfig,
        images: Sequence[ImageInfo],
        *,
        dump: bool,
        keep: bool,
        loader: Any = None,
        recorder: Recorder | None = None,
        root: Place | None = None,
        packing: Packing | None = None,
        decode: Decode = Decode.EXACT,
    ) -> None:
        self._work_dir = work_dir
        self._manifest = manifest
        self._plan = plan
        self._images = images
        written = config if dump else None
        self._results = Results(work_dir, images, plan.facts.labels, written, recorder, root, packing)
        self._keep = keep
        # Evidence is passed on, and does not tell where files lie
        self._places = {image.name: image.file for image in images} if recorder is not None else {}
        self._suspicion = Suspicion(plan.facts)
        self._doubted = self._claims = False
        self._explained = self._files = self._warned = self._found = 0
        self._failures: dict[str, str] = {}
        longest = needed_side(config) if dump else 0 if recorder is not None else None
        least = recorder.least_side if recorder is not None and not dump else None
        self._sources = Sources(plan, loader, self._failures.__contains__, longest, decode, least)
        self._explanations: list[Explanation] = []

    def execute(self, session: Session, *, resume: bool, only: Container[str] | None = None) -> ExplainRun:
        """Stream the images through the model, and write what comes out.

        Args:
            session: the compiled model.
            resume: go on with an unfinished run of the same settings.
            only: names of the images that are wanted this time; all by default.

        Raises:
            OutputError: results cannot be written.
            ModelError: the model fails.
            KeyboardInterrupt: the second Ctrl-C or termination signal; the first one only ends the run early.
        """
        is_black_box = self._plan.black_box is not None
        with interruptible(_GIVING_UP if is_black_box else _STOPPING) as stop:
            start = time.monotonic()
            self._claims = resume and self._manifest.continues()
            done = self._take_up() if self._claims else set()
            todo = [image for image in self._images if image.name not in done and (only is None or image.name in only)]
            try:
                self._stream(session, todo, stop, resumed=len(done))
                return self._conclude(time.monotonic() - start, resumed=len(done))
            except BaseException as error:
                self._tell_failure(error)
                raise

    def _tell_failure(self, error: BaseException) -> None:
        """Let the manifest say how the run ended, unless the journal in the folder may still be that of another run."""
        status = "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
        with suppress(OutputError):  # the disk may be what failed
            if self._claims:
                self._manifest.write(status, self._explained, self._failures, error=str(error))

    def _conclude(self, seconds: float, *, resumed: int) -> ExplainRun:
        """Say what is remarkable about the run, write its manifest, and return what it did."""
        interrupted = self._explained + len(self._failures) < len(self._images)
        self._warn(self._suspicion.conclude())
        facts = self._plan.facts
        if self._warned:
            logger.warning(
                "%s %s maps that say little or nothing; %s tells which, and why.",
                counted(self._warned, "image"),
                have(self._warned),
                JOURNAL,
            )
        if self._explained and not (self._found or self._doubted or facts.task.is_classification):
            logger.warning(
                "No box in any image has a score of %g or more. Lower --explain_config.confidence_threshold, or check "
                "--input.* if boxes were to be expected.",
                facts.confidence_threshold,
            )
        self._results.conclude(complete=not interrupted)
        figures = {"seconds": round(seconds, 3), "files": self._files, "images_with_warnings": self._warned}
        self._manifest.write("interrupted" if interrupted else "complete", self._explained, self._failures, **figures)
        return ExplainRun(
            work_dir=self._work_dir,
            images=len(self._images),
            explained=self._explained,
            resumed=resumed,
            failures=self._failures,
            files=self._files,
            seconds=seconds,
            interrupted=interrupted,
            explanations=tuple(self._explanations),
        )

    def _stream(self, session: Session, todo: Sequence[ImageInfo], stop: Event, *, resumed: int) -> None:
        with (
            # The journal is emptied before the manifest claims it: a kill in between mixes no two runs
            self._results.opened(),
            one_thread_each(),
            self._sources.watched(),
            progress(len(self._images), resumed) as bar,
        ):
            self._claims = True
            self._manifest.write("running", self._explained, self._failures)
            outputs, whole = self._plan.outputs, not self._plan.facts.task.is_classification
            with closing(self._sources.of(todo)) as sources:
                results: Generator[tuple[Source | Tile, Any], None, None]
                if self._plan.black_box is not None:
                    results = self._perturbed(sources, session, bar, stop)
                else:
                    finish = partial(self._finish, session)
                    results = session.stream(
                        sources, self._sources.read, finish, outputs=outputs, whole=whole, stop=stop
                    )
                with closing(results):
                    for source, result in results:
                        if result is None or source.name in self._failures:
                            continue  # other tiles of this image are missing, or one has failed
                        if isinstance(result, ImageError):
                            self._fail(source, result)
                        else:
                            line, explanation = result
                            self._note(line, explanation)
                        bar.update()

    def _perturbed(
        self, sources: Iterable[Source | Tile], session: Session, bar: tqdm[Any], stop: Event
    ) -> Generator[tuple[Source | Tile, Any], None, None]:
        """Explain one image after the other: the perturbed versions of each keep the device busy.

        Once stopped, the image in hand is given up: its map would rest on some of the passes only.
        """

        def report(progress: Progress) -> None:
            bar.set_postfix_str(f"pass {progress.done} of {progress.total}, {progress.seconds_left:.0f} s left")

        watch = Watch(report, stop)
        for source in sources:
            if stop.is_set():
                return
            result: tuple[Line, Explanation | None] | ImageError
            try:
                tensor, read = self._sources.read(source)
                with image_errors(read.info):
                    subject = subject_of(tensor, self._plan.facts)
                    choice = self._plan.perturb(session, subject, read.image_size, watch=watch)
                    if stop.is_set():
                        return
                    result = self._written(read, choice)
            except ImageError as error:
                if stop.is_set():  # too few passes may be all that is wrong
                    return
                result = error
            yield source, result

    def _finish(self, session: Session, read: ReadImage, outputs: Arrays) -> tuple[Line, Explanation | None] | None:
        """Choose the classes of one image, and write its pictures (in a thread); ``None``: more tiles are to come."""
        plan, tiled = self._plan, read.tiled
        with image_errors(read.info):
            if tiled is not None and not tiled.add(read.number, outputs):
                return None
            choice = plan.choose(outputs, read.image_size, session) if tiled is None else tiled.choose()
            return self._written(read, choice)

    def _written(self, read: ReadImage, choice: Choice) -> tuple[Line, Explanation | None]:
        """Write the pictures of one image, and return its line."""
        self._doubt(choice)
        seconds = time.monotonic() - read.began
        picks = choice.predictions, choice.targets, self._placed(read, choice)
        picture = as_picture(read.image, self._plan.facts.channels)
        one = ExplainedImage(read.info, picture, *picks, seconds, choice.detections, choice.warnings, choice.answer)
        line = self._results.write(one, self._plan.method)
        return line, self._explanation(one) if self._keep else None

    def _doubt(self, choice: Choice) -> None:
        """Say once that boxes seem to be misread."""
        if choice.detections is not None and choice.detections.doubt and not self._doubted:
            self._doubted = True
            self._warn(
                f"In an image, {choice.detections.doubt}. If so, these results mean nothing: name the format by "
                "--format, or export the model with boxes that are written so."
            )

    def _placed(self, read: ReadImage, choice: Choice) -> PlacedMaps:
        if read.tiled is not None:
            return PlacedMaps(choice.maps, read.image_size, read.tiled.geometry)
        return PlacedMaps(choice.maps, read.image_size, self._plan.facts.geometry, self._plan.grid)

    def _explanation(self, one: ExplainedImage) -> Explanation:
        maps = dict(zip(map_keys(one.targets), to_uint8(one.maps), strict=True))
        return Explanation(
            maps,
            self._plan.facts.labels,
            one.predictions,
            one.info.name,
            method=f"{self._plan.method} ({self._plan.reason})",
            warnings=one.warnings,
            placed=one.placed,
        )

    def _note(self, line: Line, explanation: Explanation | None) -> None:
        self._results.add(line)
        self._explained += 1
        self._files += len(line["files"])
        self._warned += "warnings" in line
        self._found += bool(line["predictions"])
        self._warn(self._suspicion.see(line["predictions"]))
        if explanation is not None:
            self._explanations.append(explanation)

    def _fail(self, source: Source | Tile, why: ImageError) -> None:
        logger.warning("%s", why)
        file = self._places.get(source.name, "")
        self._failures[source.name] = str(why).replace(file, source.name) if file else str(why)

    def _warn(self, warning: str | None) -> None:
        if warning:
            logger.warning("%s", warning)

    def _take_up(self) -> set[str]:
        """Return the names of the images that an unfinished run of the same settings has done."""
        kept = self._results.take_up()
        if kept:
            logger.info("Resuming: %d of %s %s done.", len(kept), counted(len(self._images), "image"), are(len(kept)))
        self._explained = len(kept)
        self._files = sum(len(line["files"]) for line in kept)
        self._warned = sum("warnings" in line for line in kept)
        self._found = sum(bool(line["predictions"]) for line in kept)
        return {line["name"] for line in kept}
