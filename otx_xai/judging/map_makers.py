"""What makes the maps of one method: its branch compiled for the classes in hand, or its perturbations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from threading import Event
from typing import Any

import numpy as np

from otx_xai.explain.plan import How, Plan, plan
from otx_xai.explain.targets import BOXES, Choice, Wanted
from otx_xai.judging.cases import JudgedCase, faint, proposals_in
from otx_xai.methods.spec import BoxJob
from otx_xai.methods.table import find_method
from otx_xai.metrics import Case, Stopped
from otx_xai.model import Model
from otx_xai.perturb import Watch, image_subject
from otx_xai.postprocess import min_max, to_image
from otx_xai.postprocess.overlaps import overlaps
from otx_xai.records import PER_IMAGE_TARGET, FloatArray, InputGeometry, MapGrid, Precision, Size
from otx_xai.runtime import Arrays, Session

_ALL_CLASSES = 16
"""Classes up to which a branch gives the maps of all of them, so that it need not be compiled again."""

_SAME_BOX = 0.3
"""Overlap from which a box of the same class is the judged one, found again in an image of which parts are hidden."""


@dataclass(frozen=True)
class PlainMap:
    """A map as a method gives it.

    Args:
        values: ``float32`` ``(h, w)`` in [0, 1], over the whole of the network's input.
        grid: where its places lie; ``None``: they divide the input evenly.
    """

    values: FloatArray
    grid: MapGrid | None = None

    @property
    def is_constant(self) -> bool:
        """Whether it says nothing about any place."""
        return bool(np.ptp(self.values) == 0)

    def over(self, size: Size, input_size: Size) -> FloatArray:
        """Return it in another resolution, ``float32`` ``size``, over the same input."""
        enlarged: FloatArray = to_image(self.values[None], size, InputGeometry(input_size), grid=self.grid)[0]
        return enlarged


class MapMaker:
    """Makes the maps of one method.

    Args:
        model: the model that is explained.
        method: name of the method; ``None``: the model's own maps.
        options: of black-box methods, by name; those that the method does not have are left out.
        target_layer: of white-box methods.
        device: OpenVINO device.
        precision: of its numbers, any but ``auto``.
        by_class: of a detector, explain the class rather than the box.
        stop: once set, perturbation ends with :class:`~otx_xai.metrics.Stopped`.
    """

    def __init__(
        self,
        model: Model,
        method: str | None,
        options: Mapping[str, Any],
        *,
        target_layer: str | None = None,
        device: str = "CPU",
        precision: Precision = Precision.F32,
        by_class: bool = False,
        stop: Event | None = None,
    ) -> None:
        spec = None if method is None else find_method(method)
        own = {} if spec is None else {name: value for name, value in options.items() if name in spec.option_names}
        layer = target_layer if spec is not None and spec.is_white_box else None
        self._how = How(method=method, target_layer=layer, options=own)
        self._model = model
        self._device, self._precision = device, precision
        self._by_class = by_class or model.facts.task.is_classification
        self._stop = stop or Event()
        self._facts = replace(model.facts, tiling=None)
        self._prepared: tuple[int, ...] | None = None
        self._plan: Plan | None = None
        self._session: Session | None = None

    @property
    def plan(self) -> Plan:
        """What explains, as it was prepared last."""
        assert self._plan is not None
        return self._plan

    @property
    def is_black_box(self) -> bool:
        """Whether it perturbs images."""
        return self.plan.black_box is not None

    def prepare(self, classes: Sequence[int]) -> None:
        """Make ready to explain these classes.

        Raises:
            GraphError: the graph gives no place for the method.
            ConfigError: an option does not fit the method or the model.
        """
        wanted = tuple(sorted(set(classes)))
        count = len(self._facts.labels)
        free = self._plan is not None and self._plan.black_box is not None and self._plan.black_box.guide is None
        if count <= _ALL_CLASSES or free:
            wanted = tuple(range(count))
        if not self._by_class:
            wanted = ()
        if self._prepared == wanted:
            return
        model = replace(self._model, facts=self._facts)
        self._session = None  # one less in memory while the next is compiled
        made = plan(model, self._how, targets=list(wanted) if self._by_class else BOXES, told=False)
        self._session = made.compiled(self._device, precision=self._precision)
        self._plan, self._prepared = made, wanted

    def __call__(self, cases: Sequence[Case]) -> FloatArray:
        """Return maps of cases, ``float32`` ``(N, H, W)``, as large as the network's input.

        A box that is not found again has a constant map, which agrees with no other.

        Raises:
            ImageError: the outputs of the model are not finite.
        """
        size = self._facts.geometry.size
        found = [self.explain(case) for case in cases]
        zeros = np.zeros(size, np.float32)
        return np.stack([zeros if one is None else one.over(size, size) for one in found])

    def explain(self, case: Case) -> PlainMap | None:
        """Return the map of one case as the method gives it; ``None`` where its box or class is not there.

        Raises:
            ImageError: the outputs of the model are not finite.
        """
        made, size = self.plan, self._facts.geometry.size
        if not made.facts.task.is_classification:
            made = replace(made, facts=faint(made.facts))
        if made.black_box is None:
            assert self._session is not None
            choice = made.choose(self._outputs(case, made), size, self._session)
        elif self._by_class and isinstance(case, JudgedCase) and case.box is not None:
            return self._perturbed_for(case.box, made, case)
        else:
            choice = self._perturbed(made, case, size)
        number = self._place(choice, case)
        return None if number is None else PlainMap(choice.maps[number], made.grid)

    def _outputs(self, case: Case, made: Plan) -> Arrays:
        assert self._session is not None
        batch = np.repeat(case.image[None], self._session.batch, axis=0)
        outputs = self._session.run(batch)
        if made.facts.task.is_classification:
            return {name: values[0] for name, values in outputs.items() if name in made.outputs}
        return outputs if len(batch) == 1 else {name: values[:1] for name, values in outputs.items()}

    def _perturbed(self, made: Plan, case: Case, size: Size) -> Choice:
        assert self._session is not None
        subject = image_subject(case.image, made.facts)
        if self._by_class:
            made = replace(made, wanted=Wanted((case.target,), made.wanted.threshold))
        choice = made.perturb(self._session, subject, size, watch=Watch(stop=self._stop))
        if self._stop.is_set():  # the map would rest on some of the passes only
            raise Stopped
        return choice

    def _perturbed_for(self, box: FloatArray, made: Plan, case: Case) -> PlainMap:
        """Explain a box by perturbation whether or not the network finds it: random weights find none."""
        assert made.black_box is not None
        assert made.black_box.spec.explain_boxes is not None
        assert self._session is not None
        subject = image_subject(case.image, made.facts)
        read = partial(proposals_in, facts=made.facts, format=made.boxes)
        job = BoxJob(self._session, read, subject, box[None], np.array([case.target]))
        result = made.black_box.spec.explain_boxes(job, made.black_box.options, Watch(stop=self._stop))
        if self._stop.is_set():
            raise Stopped
        return PlainMap(min_max(result.maps)[0])

    def _place(self, choice: Choice, case: Case) -> int | None:
        """Return which of the maps is the one of the case."""
        targets = choice.targets
        if len(targets) == 1 and targets[0].target == PER_IMAGE_TARGET:
            return 0
        same = [number for number, target in enumerate(targets) if target.target == case.target]
        if self._by_class or not same or not isinstance(case, JudgedCase) or case.box is None:
            return same[0] if same else None
        boxes = np.array([targets[number].box for number in same], np.float32)
        shared = overlaps(case.box[None], boxes)[0]
        best = int(shared.argmax())
        return same[best] if shared[best] >= _SAME_BOX else None
