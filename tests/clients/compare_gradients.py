"""Compare maps made of gradients with those of Captum and pytorch-grad-cam, on the same torch network.

python tests/clients/compare_gradients.py

Captum gives Grad-CAM and integrated gradients, pytorch-grad-cam Grad-CAM, HiResCAM and LayerCAM. Any difference of more
than 1e-4 of a map's largest value is an error. The network is smooth, so that no rounding makes a ReLU flip.
"""

from __future__ import annotations

import sys

import numpy as np
import openvino as ov
import pytorch_grad_cam as peers
import torch
import torchvision
from captum.attr import IntegratedGradients, LayerGradCam
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torchvision.models.resnet import BasicBlock

from otx_xai import insert_xai
from otx_xai.openvino_core import core

SIZE, TARGET = 96, 3


def ours(model: ov.Model, image: torch.Tensor, method: str) -> np.ndarray:
    """Return the map of the target by a branch in the graph."""
    explained = insert_xai(model, explain_method=method, targets=[TARGET], embed_scaling=False)
    results = core().compile_model(explained, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})(image.numpy())
    return np.array(results["saliency_map"])[0, 0]


def of_grad_cam(kind: type, net: torch.nn.Module, image: torch.Tensor) -> np.ndarray:
    """Return a map of pytorch-grad-cam as it is before it is scaled and enlarged."""
    with kind(model=net, target_layers=[net.layer4]) as method:
        targets = [ClassifierOutputTarget(TARGET)]
        method(image, targets=targets)
        hooks = method.activations_and_grads
        values, gradients = hooks.activations[0].numpy(), hooks.gradients[0].numpy()
        return np.maximum(method.get_cam_image(image, net.layer4, targets, values, gradients, False)[0], 0)


def smooth_network() -> torch.nn.Module:
    """Return a ResNet without corners."""
    net = torchvision.models.resnet18(num_classes=7)
    net.maxpool = torch.nn.AvgPool2d(3, 2, 1)
    for block in [net, *(module for module in net.modules() if isinstance(module, BasicBlock))]:
        block.relu = torch.nn.SiLU()
    return net


def main() -> None:
    torch.manual_seed(0)
    net = smooth_network()
    with torch.no_grad():
        net.train()(torch.randn(8, 3, SIZE, SIZE))  # statistics of normalisation that keep the scale of activations
    net.eval()
    image = torch.randn(1, 3, SIZE, SIZE)
    model = ov.convert_model(net, example_input=image, input=[1, 3, SIZE, SIZE])
    integrated = IntegratedGradients(net).attribute(image, target=TARGET, n_steps=50, method="gausslegendre")
    captum = LayerGradCam(net, net.layer4).attribute(image, TARGET, relu_attributions=True)[0, 0].detach().numpy()
    pairs = {
        "integratedgradients (Captum)": integrated.sum(1)[0].relu().detach().numpy(),
        "gradcam (Captum)": captum,
        "gradcam (pytorch-grad-cam)": of_grad_cam(peers.GradCAM, net, image),
        "hirescam (pytorch-grad-cam)": of_grad_cam(peers.HiResCAM, net, image),
        "layercam (pytorch-grad-cam)": of_grad_cam(peers.LayerCAM, net, image),
    }
    worst = 0.0
    for name, wanted in pairs.items():
        error = np.abs(ours(model, image, name.split()[0]) - wanted).max() / np.abs(wanted).max()
        worst = max(worst, error)
        print(f"{name}: differs by {error:.1e} of the largest value")
    sys.exit(f"A map differs by {worst:.1e}; expected at most 1e-4." if worst > 1e-4 else 0)


if __name__ == "__main__":
    main()
