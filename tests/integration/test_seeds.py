# ruff: noqa: B018, E501
"""The snippets of openvino_xai's notebooks and guides, as their users run them; but for the imports nothing is changed.

Downloads are replaced by models and pictures of our own.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import classifiers
import cv2
import matplotlib as mpl
import numpy as np
import openvino as ov
import pytest
from openvino.utils.data_helpers.wrappers import OVDict

import otx_xai as xai
from otx_xai.explainer import ExplainMode
from otx_xai.explainer.explanation import Explanation

mpl.use("Agg")

import matplotlib.pyplot as plt

IMAGENET_NAMES = {
    **dict(
        enumerate(
            ["tench", "goldfish", "great white shark", "tiger shark", "hammerhead", "electric ray", "stingray", "cock"]
        )
    ),
    **{8: "hen", 9: "ostrich", 155: "Shih-Tzu", 159: "Rhodesian ridgeback", 162: "beagle", 167: "English foxhound"},
    **{193: "Australian terrier", 205: "flat-coated retriever", 207: "golden retriever", 229: "Old English sheepdog"},
    **{258: "Samoyed", 273: "dingo", 651: "microwave, microwave oven"},
}


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(plt, "show", lambda: None)
    yield
    plt.close("all")


@pytest.fixture
def download_file() -> Callable[..., Path]:
    """Give what we drew and wrote in place of what is at the address."""

    def make(url: str, name: str | None = None, directory: str | Path = ".") -> Path:
        path = Path(directory) / (name or Path(url).name)
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.name == "coco.jpg":
            write_image(path, (354, 500))
        elif path.name == "imagenet_2012.txt":
            path.write_text("\n".join(f"n{i:08} {IMAGENET_NAMES.get(i, f'thing {i}, it')}" for i in range(1000)))
        return path

    return make


def write_image(path: Path, size: tuple[int, int] = (100, 120)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = classifiers.coloured_image(size)
    assert cv2.imwrite(str(path), cv2.cvtColor(image, cv2.COLOR_RGB2BGR))


def test_notebook_2_deep_dive(download_file: Callable[..., Path], capsys: pytest.CaptureFixture[str]):
    base_artifacts_dir = Path("./artifacts").expanduser()

    model_name = "v3-small_224_1.0_float"
    model_xml_name = f"{model_name}.xml"

    model_xml_path = base_artifacts_dir / model_xml_name
    ov.save_model(classifiers.tensorflow_classifier(), model_xml_path)

    # Download the image from the openvino_notebooks storage
    image_filename = download_file(
        "https://storage.openvinotoolkit.org/repositories/openvino_notebooks/data/data/image/coco.jpg",
        directory="data",
    )

    # The MobileNet model expects images in RGB format.
    image = cv2.cvtColor(cv2.imread(filename=str(image_filename)), code=cv2.COLOR_BGR2RGB)
    plt.imshow(image)

    # Resize to MobileNetV3 input image shape.
    preprocessed_image = cv2.resize(src=image, dsize=(224, 224))
    # Add batch dimension
    preprocessed_image = np.expand_dims(preprocessed_image, 0)

    # Create ov.Model
    model = ov.Core().read_model(model_xml_path)

    # Create explainer object
    explainer = xai.Explainer(
        model=model,
        task=xai.Task.CLASSIFICATION,
    )

    # You can choose classes to generate saliency maps for.
    # In this notebook we will check maps for predicted class 206 - flat-coated retriever
    retriever_class_index = 206

    explanation = explainer(
        preprocessed_image,
        targets=retriever_class_index,
        overlay=True,  # False by default
    )

    explanation: Explanation
    # Dict[int: np.ndarray] where key - class id, value - processed saliency map e.g. 354x500x3
    explanation.saliency_map

    # Check saved saliency maps
    print(f"Saliency maps were generated for the following classes: {explanation.targets}")
    print(f"Saliency map size: {explanation.shape}")

    # Show saliency maps for retriever class
    retriever_sal_map = explanation.saliency_map[retriever_class_index]
    plt.imshow(retriever_sal_map)

    assert isinstance(explanation, Explanation)
    assert capsys.readouterr().out == (
        "Saliency maps were generated for the following classes: [206]\nSaliency map size: (224, 224, 3)\n"
    )

    # Save saliency map
    output = base_artifacts_dir / "explain_auto"
    explanation.save(output)

    # See saved saliency maps
    image_sal_map = cv2.imread(f"{output}/target_{retriever_class_index}.jpg")
    image_sal_map = cv2.cvtColor(image_sal_map, cv2.COLOR_BGR2RGB)
    plt.imshow(image_sal_map)

    assert np.abs(image_sal_map.astype(int) - retriever_sal_map).mean() < 8

    explanation = explainer(preprocessed_image, targets=-1)

    # Check saved saliency maps
    print(f"Saliency maps were generated for the following classes: {explanation.targets}")
    print(f"Saliency map size: {explanation.shape}")

    assert capsys.readouterr().out == (
        f"Saliency maps were generated for the following classes: {list(range(1001))}\n"
        "Saliency map size: (224, 224, 3)\n"
    )

    def preprocess_fn(x: np.ndarray) -> np.ndarray:
        # Implementing own pre-process function based on model's implementation
        x = cv2.resize(src=x, dsize=(224, 224))

        # Add batch dimension
        x = np.expand_dims(x, 0)
        return x

    def postprocess_fn(x: OVDict):
        # Implementing own post-process function based on model's implementation
        # Return "logits" model output
        return x[0]

    # Create explainer object
    explainer = xai.Explainer(
        model=model,
        task=xai.Task.CLASSIFICATION,
        preprocess_fn=preprocess_fn,
        postprocess_fn=postprocess_fn,
    )

    explanation = explainer(image, targets=retriever_class_index)

    assert explanation.targets == [206]
    assert explanation.shape == (354, 500, 3)

    # Create explainer object
    explainer = xai.Explainer(model=model, task=xai.Task.CLASSIFICATION)

    # Return overlayed image
    explanation = explainer(
        preprocessed_image,
        targets=[retriever_class_index],  # target can be a single label index, label name or a list of indices/names
        overlay=True,  # False by default
        original_input_image=image,  # to apply overlay on the original image instead of preprocessed one that was used for the explainer
    )

    retriever_sal_map = explanation.saliency_map[retriever_class_index]
    plt.imshow(retriever_sal_map)

    # Save saliency map
    output = base_artifacts_dir / "overlay"
    explanation.save(output)

    assert explanation.shape == (354, 500, 3)
    assert [path.name for path in output.iterdir()] == ["target_206.jpg"]

    # Return low-resolution saliency map
    explanation = explainer(
        preprocessed_image,
        targets=[retriever_class_index],  # target can be a single label index, label name or a list of indices/names
        overlay=False,  # False by default
    )

    retriever_sal_map = explanation.saliency_map[retriever_class_index]
    plt.imshow(retriever_sal_map)

    # Save saliency map
    output = base_artifacts_dir / "colormap"
    explanation.save(output)

    assert explanation.shape == (224, 224, 3)

    # Return low-resolution gray-scale saliency map
    explanation = explainer(
        preprocessed_image,
        targets=[retriever_class_index],  # target can be a single label index, label name or a list of indices/names
        resize=False,  # True by default
        colormap=False,  # True by default
    )

    retriever_sal_map = explanation.saliency_map[retriever_class_index]
    plt.imshow(retriever_sal_map, cmap="gray")

    # Save saliency map
    output = base_artifacts_dir / "grayscale"
    explanation.save(output)

    assert explanation.shape == (28, 28)
    assert retriever_sal_map.dtype == np.uint8

    # Create explainer object
    explainer = xai.Explainer(
        model=model,
        task=xai.Task.CLASSIFICATION,
        preprocess_fn=preprocess_fn,
        # defaults to ExplainMode.AUTO
        explain_mode=ExplainMode.WHITEBOX,
        # ReciproCAM is the default XAI method for CNNs
        explain_method=xai.Method.RECIPROCAM,
    )

    # insert XAI branch
    model_xai: ov.Model
    model_xai = xai.insert_xai(
        model,
        task=xai.Task.CLASSIFICATION,
        explain_method=xai.Method.RECIPROCAM,
        target_layer="MobilenetV3/Conv_1/Conv2D",  # MobileNet V3
        embed_scaling=True,
    )

    assert model_xai.output("saliency_map").shape == (1, 1001, 28, 28)
    assert len(model.outputs) == 1

    # Create explainer object
    explainer = xai.Explainer(
        model=model,
        task=xai.Task.CLASSIFICATION,
        preprocess_fn=preprocess_fn,
        explain_mode=ExplainMode.AUTO,
        explain_method=xai.Method.RECIPROCAM,
        # target_layer="last_conv_node_name",  # target_layer - node after which XAI branch will be inserted
        target_layer="MobilenetV3/Conv_1/Conv2D",
        embed_scaling=True,  # True by default.  If set to True, saliency map scale (0 ~ 255) operation is embedded in the model
    )

    # Create explainer object
    explainer = xai.Explainer(
        model=model,
        task=xai.Task.CLASSIFICATION,
        preprocess_fn=preprocess_fn,
        postprocess_fn=postprocess_fn,
        explain_mode=ExplainMode.BLACKBOX,  # defaults to AUTO
    )

    # Generate explanation
    explanation = explainer(
        image,
        targets=retriever_class_index,
        # targets=-1,  # Explain all classes
        overlay=True,
        num_masks=1000,  # kwargs of the RISE algo
    )

    # Save saliency map
    output = base_artifacts_dir / "blackbox_explain"
    explanation.save(output)

    # See saved saliency maps
    image_sal_map = cv2.imread(f"{output}/target_{retriever_class_index}.jpg")
    image_sal_map = cv2.cvtColor(image_sal_map, cv2.COLOR_BGR2RGB)
    plt.imshow(image_sal_map)

    assert explanation.method == "rise (asked for)"
    assert image_sal_map.shape == explanation.shape

    imagenet_filename = download_file(
        "https://storage.openvinotoolkit.org/repositories/openvino_notebooks/data/data/datasets/imagenet/imagenet_2012.txt",
        directory="data",
    )

    imagenet_classes = imagenet_filename.read_text().splitlines()

    imagenet_labels = []
    for label in imagenet_classes:
        class_label = " ".join(label.split(" ")[1:])
        first_class_label = class_label.split(",")[0].replace(" ", "_")
        imagenet_labels.append(first_class_label)

    print(" ".join(imagenet_labels[:10]))

    assert capsys.readouterr().out == (
        "tench goldfish great_white_shark tiger_shark hammerhead electric_ray stingray cock hen ostrich\n"
    )

    # The model description states that for this model, class 0 is a background.
    # Therefore, a background must be added at the beginning of imagenet_classes.
    imagenet_labels = ["background"] + imagenet_labels  # noqa: RUF005

    # Create explainer object
    explainer = xai.Explainer(
        model=model,
        task=xai.Task.CLASSIFICATION,
        preprocess_fn=preprocess_fn,
        explain_mode=ExplainMode.WHITEBOX,
    )

    # Adding ImageNet label names.
    explanation = explainer(
        image,
        # Return saliency maps for 2 named labels
        targets=["flat-coated_retriever", "microwave"],  # Also label indices [206, 652] are possible as target
        label_names=imagenet_labels,
    )

    # Save saliency map
    output = base_artifacts_dir / "label_names"
    explanation.save(output)

    # See saliency mas saved in `output` with predicted label in image name
    for file_name in output.glob("*"):
        print(file_name)

    assert explanation.targets == [206, 652]
    assert sorted(capsys.readouterr().out.split()) == [
        str(Path("artifacts/label_names/target_flat-coated_retriever.jpg")),
        str(Path("artifacts/label_names/target_microwave.jpg")),
    ]

    # Create explainer object
    explainer = xai.Explainer(
        model=model,
        task=xai.Task.CLASSIFICATION,
        preprocess_fn=preprocess_fn,
        explain_mode=ExplainMode.WHITEBOX,
        explain_method=xai.Method.ACTIVATIONMAP,
    )

    explanation = explainer(image, targets=-1, overlay=True)
    activation_map = explanation.saliency_map["per_image_map"]

    plt.imshow(activation_map)
    plt.show()

    assert activation_map.shape == (354, 500, 3)


def test_notebook_3_map_interpretation(download_file: Callable[..., Path], capsys: pytest.CaptureFixture[str]):
    base_artifacts_dir = Path("./artifacts").expanduser()
    data_folder = base_artifacts_dir / ".data"
    image_folder_path = data_folder / "imagewoof320" / "imagewoof320"
    write_image(image_folder_path / "train/n02105641/n02105641_2491.JPEG", (320, 426))

    # Create list of images to explain
    img_files = []
    img_files.extend(image_folder_path.rglob("*.JPEG"))
    print(f"Number of images to get explanations: {len(img_files)}")

    # Get a fewer subset for fast execution
    random.seed(42)
    img_files = random.sample(img_files, 1)
    print(f"Run explanations on fewer number of images: {len(img_files)}")

    model_name = "mobilenetv3_large_100.ra_in1k"
    model_xml_name = f"{model_name}.xml"

    model_xml_path = base_artifacts_dir / model_xml_name
    ov.save_model(classifiers.colour_classifier((1, 3, 224, 224), 1000, strength=100), model_xml_path)

    core = ov.Core()
    device = SimpleNamespace(value="CPU")  # chosen in a drop-down list

    model = core.read_model(model=model_xml_path)
    compiled_model = core.compile_model(model=model, device_name=device.value)

    def preprocess_fn(x: np.ndarray) -> np.ndarray:
        """
        Implementing own pre-process function based on model's implementation
        """
        x = cv2.resize(src=x, dsize=(224, 224))

        # Specific normalization for timm model
        mean = np.array([123.675, 116.28, 103.53])
        std = np.array([58.395, 57.12, 57.375])
        x = (x - std) / mean

        # Reshape to model input shape to [channels, height, width].
        x = x.transpose((2, 0, 1))

        # Add batch dimension
        x = np.expand_dims(x, 0)
        return x

    def postprocess_fn(x: np.ndarray) -> np.ndarray:
        """
        Process model prediction
        """
        prediction_processed = softmax(x)

        # Remove batch dimention
        return prediction_processed[0]

    def softmax(x):
        """Compute softmax values of x."""
        e_x = np.exp(x - np.max(x))
        return e_x / e_x.sum()

    # Create ov.Model
    model = core.read_model(model=model_xml_path)

    # Create explainer object
    explainer = xai.Explainer(
        model=model,
        task=xai.Task.CLASSIFICATION,
        preprocess_fn=preprocess_fn,
        explain_mode=ExplainMode.WHITEBOX,
    )

    imagenet_filename = download_file(
        "https://storage.openvinotoolkit.org/repositories/openvino_notebooks/data/data/datasets/imagenet/imagenet_2012.txt",
        directory=".data",
    )

    imagenet_classes = imagenet_filename.read_text().splitlines()

    # Get ImageNet label names to add them to explanations
    imagenet_labels = []
    for label in imagenet_classes:
        class_label = " ".join(label.split(" ")[1:])
        first_class_label = class_label.split(",")[0].replace(" ", "_")
        imagenet_labels.append(first_class_label)

    # Check, how dog breed labels will look in saved saliency map names
    dog_breeds_indices = [155, 159, 162, 167, 193, 207, 229, 258, 273]
    print(" ".join([imagenet_labels[ind] for ind in dog_breeds_indices]))

    assert capsys.readouterr().out == (
        "Number of images to get explanations: 1\n"
        "Run explanations on fewer number of images: 1\n"
        "Shih-Tzu Rhodesian_ridgeback beagle English_foxhound Australian_terrier golden_retriever "
        "Old_English_sheepdog Samoyed dingo\n"
    )

    output = base_artifacts_dir / "saliency_maps" / "multiple_images"

    # Explain model and save results using ImageNet label names
    for image_path in img_files:
        image = cv2.imread(str(image_path))
        explanation = explainer(
            image,
            targets=[
                "flat-coated_retriever",
                "Samoyed",
            ],  # Also label indices [206, 258] are possible as target
            label_names=imagenet_labels,
        )
        explanation.save(output, Path(image_path).stem)

    # See saliency that was saved in `output` with predicted label in image name
    for file_name in output.glob("*"):
        print(file_name)

    assert explanation.shape == (320, 426, 3)
    assert sorted(Path(line).name for line in capsys.readouterr().out.split()) == [
        "n02105641_2491_target_Samoyed.jpg",
        "n02105641_2491_target_flat-coated_retriever.jpg",
    ]

    # Read paths to ImegeWoof pictures with notable use cases
    use_cases_image_paths = {
        "True_positive_high_confidence": {
            "confidence": 0.79,
            "paths": [
                "train/n02088364/n02088364_2019.JPEG",
                "train/n02099601/n02099601_6505.JPEG",
                "train/n02105641/n02105641_817.JPEG",
                "train/n02111889/n02111889_17737.JPEG",
            ],
        },
        "True_positive_low_confidence": {
            "confidence": 0.175,
            "paths": [
                "train/n02086240/n02086240_1765.JPEG",
                "val/n02086240/n02086240_1422.JPEG",
                "train/n02086240/n02086240_3709.JPEG",
                "val/n02099601/n02099601_7942.JPEG",
            ],
        },
        "False_positive_high_confidence": {
            "confidence": 0.60,
            "paths": [
                "train/n02087394/n02087394_6357.JPEG",
                "val/n02088364/n02088364_2430.JPEG",
                "train/n02088364/n02088364_12304.JPEG",
                "train/n02096294/n02096294_2323.JPEG",
                "train/n02099601/n02099601_4933.JPEG",
                "val/n02111889/n02111889_1931.JPEG",
                "train/n02111889/n02111889_14926.JPEG",
                "val/n02115641/n02115641_5752.JPEG",
            ],
        },
        "True_positive_two_predictions": {
            "confidence": 0.17,
            "paths": ["train/n02099601/n02099601_634.JPEG", "train/n02111889/n02111889_374.JPEG"],
        },
    }
    for case in use_cases_image_paths.values():
        for path in case["paths"]:
            write_image(image_folder_path / path)

    # Add mapping from folder name to label and label_idx to define the ground-truth label
    label_mapping = {
        "n02088364": ("beagle", 162),
        "n02099601": ("golden retriever", 207),
        "n02105641": ("Old English sheepdog", 229),
        "n02111889": ("Samoyed", 258),
        "n02086240": ("Shih-Tzu", 155),
        "n02089973": ("English foxhound", 167),
        "n02087394": ("Rhodesian ridgeback", 159),
        "n02096294": ("Australian terrier", 193),
        "n02115641": ("dingo", 273),
    }

    def get_model_predictions(conf_thr: float = 0.1) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        logits = compiled_model([preprocess_fn(image)])[0]
        result_infer = postprocess_fn(logits)
        result_idxs = np.argwhere(result_infer > conf_thr).flatten()
        result_scores = result_infer[result_idxs]

        for index, score in zip(result_idxs, result_scores):  # noqa: B905
            print(f"Predicted class {imagenet_labels[index]}, index {index}, probability: {score:.2f}")
        return result_infer, result_idxs, result_scores

    output = base_artifacts_dir / "saliency_maps" / "imagewoof320"

    # Run explanation for chosen paths
    for use_case in use_cases_image_paths:
        os.makedirs(output / use_case, exist_ok=True)

        image_paths = use_cases_image_paths[use_case]["paths"]
        use_case_conf_thr = use_cases_image_paths[use_case]["confidence"]

        for image_path in image_paths:
            image = cv2.imread(str(image_folder_path / image_path))
            image_name = Path(image_path).stem

            folder_name = image_name.split("_")[0]
            gt_class, gt_class_idx = label_mapping[folder_name]

            scores, result_idxs, result_scores = get_model_predictions(use_case_conf_thr)
            gt_conf = scores[gt_class_idx]
            gt_info = f"gt_{gt_class}_{gt_conf:.2f}"

            explanation = explainer(
                image,
                targets=result_idxs,  # Return saliency maps for predicted classes
                label_names=imagenet_labels,
                overlay=True,
            )

            # Save saliency maps, use detailed implementation instead of `explanation.save`
            # to return predicted scores for saliency maps as well
            for idx, score in zip(result_idxs, result_scores):  # noqa: B905
                target_name = imagenet_labels[idx]
                cv2.imwrite(
                    os.path.join(
                        output / use_case,
                        f"{image_name}_{gt_info}_pr_{target_name}_{score:.2f}.jpg",
                    ),
                    img=explanation.saliency_map[idx],
                )

    # Function to show result saliency maps for each use case
    def show_use_case_image(use_case):
        use_case_output_dir = output / use_case
        image_paths = sorted(os.listdir(use_case_output_dir))
        number_images = len(image_paths)

        fig, axs = plt.subplots((number_images + 1) // 2, 2, figsize=(10, 10))
        fig.tight_layout()
        fig.suptitle(use_case)
        fig.subplots_adjust(top=0.92)
        axs = axs.flatten()

        for image_path, ax in zip(image_paths, axs):  # noqa: B905
            image_sal_map = cv2.imread(f"{use_case_output_dir}/{image_path}")
            image_name = Path(image_path).stem
            image_name = image_name.replace("_target", "")
            image_name = "_".join(image_name.split("_")[1:])

            ax.imshow(image_sal_map)
            ax.set_title(f"{image_name}", wrap=True)
            ax.axis("off")
        if number_images % 2 == 1:
            axs[-1].set_visible(False)
        plt.show()

    for use_case, case in use_cases_image_paths.items():
        stems = {Path(path).stem for path in case["paths"]}
        assert {"_".join(path.name.split("_")[:2]) for path in (output / use_case).iterdir()} == stems
        show_use_case_image(use_case)


@pytest.fixture
def path_to(tmp_path: Path) -> Path:
    """``path/to/model.xml`` of 20 classes as OTX exports it, the same as ONNX, and ``path/to/image.jpg``."""
    folder = tmp_path / "path" / "to"
    model = classifiers.colour_classifier((1, 3, 224, 224), 20, model_info={"task_type": "classification"})
    ov.save_model(model, folder / "model.xml")
    write_image(folder / "image.jpg", (120, 160))
    return folder


VOC_FILES = {"output_path/name_target_11.jpg", "output_path/name_target_14.jpg"}


def saved() -> set[str]:
    return {path.as_posix() for path in Path("output_path").rglob("*") if path.is_file()}


def test_user_guide_in_a_nutshell(path_to: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(path_to)
    data = cv2.imread("image.jpg")

    model = ov.Core().read_model("model.xml")
    explainer = xai.Explainer(model=model, task=xai.Task.CLASSIFICATION)
    explanation = explainer(data)
    assert explanation.targets == list(range(20))
    assert explanation.shape == (120, 160, 3)

    explainer = xai.Explainer(model="model.xml", task=xai.Task.CLASSIFICATION)
    assert explainer(data).targets == list(range(20))


def test_user_guide_onnx(path_to: Path, monkeypatch: pytest.MonkeyPatch):
    write_onnx(path_to / "model.onnx")
    monkeypatch.chdir(path_to)
    explainer = xai.Explainer(model="model.onnx", task=xai.Task.CLASSIFICATION)
    explanation = explainer(cv2.imread("image.jpg"))
    assert explanation.targets == [0, 1, 2]
    assert explanation.shape == (120, 160, 3)


def write_onnx(path: Path) -> None:
    from onnx import TensorProto, helper, save

    kernel = np.tile(1.5 * np.eye(3)[:, :, None, None] - 0.5, (1, 1, 8, 8)) / 64
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["image", "kernel"], ["conv"], strides=[8, 8]),
            helper.make_node("Relu", ["conv"], ["relu"]),
            helper.make_node("GlobalAveragePool", ["relu"], ["pool"]),
            helper.make_node("Flatten", ["pool"], ["logits"]),
        ],
        "classifier",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, 64, 64])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, 3])],
        [helper.make_tensor("kernel", TensorProto.FLOAT, kernel.shape, kernel.astype(np.float32).ravel())],
    )
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


def test_user_guide_auto_mode_preprocessed(path_to: Path):
    def postprocess_fn(x: OVDict):
        # Implementing our own post-process function based on the model's implementation
        # Return "logits" model output
        return x["logits"]

    # Create ov.Model
    model = ov.Core().read_model("path/to/model.xml")  # type: ov.Model

    # Explainer object will prepare and load the model once in the beginning
    explainer = xai.Explainer(
        model,
        task=xai.Task.CLASSIFICATION,
        postprocess_fn=postprocess_fn,
    )

    # Generate and process saliency maps (as many as required, sequentially)
    image = cv2.imread("path/to/image.jpg")

    # Pre-process the image as the model requires (resizing and adding a batch dimension)
    preprocessed_image = cv2.resize(src=image, dsize=(224, 224))
    preprocessed_image = np.expand_dims(preprocessed_image, 0)

    # Run explanation
    explanation = explainer(
        preprocessed_image,
        target_explain_labels=[11, 14],  # indices or string labels to explain
        overlay=True,  # False by default
        original_input_image=image,  # to apply overlay on the original image instead of the preprocessed one that was used for the explainer
    )

    # Save saliency maps
    explanation.save("output_path", "name")

    assert explanation.targets == [11, 14]
    assert explanation.shape == (120, 160, 3)
    assert saved() == VOC_FILES


def test_user_guide_auto_mode_with_preprocess_fn(path_to: Path):
    def preprocess_fn(x: np.ndarray) -> np.ndarray:
        # Implementing our own pre-process function based on the model's implementation
        x = cv2.resize(src=x, dsize=(224, 224))
        x = np.expand_dims(x, 0)
        return x

    def postprocess_fn(x: OVDict):
        # Implementing our own post-process function based on the model's implementation
        # Return "logits" model output
        return x["logits"]

    # Create ov.Model
    model = ov.Core().read_model("path/to/model.xml")  # type: ov.Model

    # The Explainer object will prepare and load the model once in the beginning
    explainer = xai.Explainer(
        model,
        task=xai.Task.CLASSIFICATION,
        preprocess_fn=preprocess_fn,
        postprocess_fn=postprocess_fn,
    )

    # Generate and process saliency maps (as many as required, sequentially)
    image = cv2.imread("path/to/image.jpg")

    # Run explanation
    explanation = explainer(
        image,
        target_explain_labels=[11, 14],  # indices or string labels to explain
    )

    # Save saliency maps
    explanation.save("output_path", "name")

    assert saved() == VOC_FILES


@pytest.mark.parametrize("target_explain_labels", [[11, 14], ["dog", "person"]])
def test_user_guide_white_box_mode(path_to: Path, target_explain_labels: list[int] | list[str]):
    def preprocess_fn(x: np.ndarray) -> np.ndarray:
        # Implementing own pre-process function based on the model's implementation
        x = cv2.resize(src=x, dsize=(224, 224))
        x = np.expand_dims(x, 0)
        return x

    # Create ov.Model
    model = ov.Core().read_model("path/to/model.xml")  # type: ov.Model

    # The Explainer object will prepare and load the model once at the beginning
    explainer = xai.Explainer(
        model,
        task=xai.Task.CLASSIFICATION,
        preprocess_fn=preprocess_fn,
    )

    # Generate and process saliency maps (as many as required, sequentially)
    image = cv2.imread("path/to/image.jpg")

    # fmt: off
    voc_labels = [
        'aeroplane', 'bicycle', 'bird', 'boat', 'bottle', 'bus', 'car', 'cat', 'chair', 'cow', 'diningtable',
        'dog', 'horse', 'motorbike', 'person', 'pottedplant', 'sheep', 'sofa', 'train', 'tvmonitor'
    ]
    # fmt: on

    # Run explanation
    explanation = explainer(
        image,
        explain_mode=ExplainMode.WHITEBOX,
        # target_layer="last_conv_node_name",  # target_layer - node after which the XAI branch will be inserted, usually the last convolutional layer in the backbone
        embed_scaling=True,  # True by default. If set to True, the saliency map scale (0 ~ 255) operation is embedded in the model
        explain_method=xai.Method.RECIPROCAM,  # ReciproCAM is the default XAI method for CNNs
        label_names=voc_labels,
        target_explain_labels=target_explain_labels,  # target classes to explain, also ['dog', 'person'] is a valid input, since label_names are provided
        overlay=True,  # False by default
    )

    # Save saliency maps
    explanation.save("output_path", "name")

    assert explanation.targets == [11, 14]
    assert explanation.shape == (120, 160, 3)
    assert saved() == {"output_path/name_target_dog.jpg", "output_path/name_target_person.jpg"}


def test_user_guide_black_box_mode(path_to: Path):
    def preprocess_fn(x: np.ndarray) -> np.ndarray:
        # Implementing our own pre-process function based on the model's implementation
        x = cv2.resize(src=x, dsize=(224, 224))
        x = np.expand_dims(x, 0)
        return x

    # Create ov.Model
    model = ov.Core().read_model("path/to/model.xml")  # type: ov.Model

    # The Explainer object will prepare and load the model once at the beginning
    explainer = xai.Explainer(
        model,
        task=xai.Task.CLASSIFICATION,
        preprocess_fn=preprocess_fn,
    )

    # Generate and process saliency maps (as many as required, sequentially)
    image = cv2.imread("path/to/image.jpg")

    # Run explanation
    explanation = explainer(
        image,
        explain_mode=ExplainMode.BLACKBOX,
        target_explain_labels=[11, 14],  # target classes to explain
        # target_explain_labels=-1,  # explain all classes
        overlay=True,  # False by default
        num_masks=1000,  # kwargs for the RISE algorithm
    )

    # Save saliency maps
    explanation.save("output_path", "name")

    assert explanation.targets == [11, 14]


def test_user_guide_insert_xai(path_to: Path):
    # Create an ov.Model
    model = ov.Core().read_model("path/to/model.xml")  # type: ov.Model

    # Insert XAI branch into the model graph
    model_xai = xai.insert_xai(
        model=model,
        task=xai.Task.CLASSIFICATION,
        # target_layer="last_conv_node_name",  # target_layer - the node after which the XAI branch will be inserted, usually the last convolutional layer in the backbone
        embed_scaling=True,  # True by default. If set to True, the saliency map scale (0 ~ 255) operation is embedded in the model
        explain_method=xai.Method.RECIPROCAM,  # ReciproCAM is the default XAI method for CNNs
    )  # type: ov.Model

    # ***** Downstream task: user's code that infers model_xai and picks 'saliency_map' output *****
    image = np.zeros((1, 3, 224, 224), np.float32)
    results = ov.Core().compile_model(model_xai, "CPU")(image)
    assert results["logits"].shape == (1, 20)
    assert results["saliency_map"].shape == (1, 20, 28, 28)


def test_otx_guide(path_to: Path):
    write_image(Path("data") / "a" / "first.jpg")
    write_image(Path("data") / "second.png")
    engine = xai.Engine(work_dir="out")

    run = engine.explain(
        checkpoint="path/to/model.xml",  # .pth or .xml weights of the model
        datamodule=xai.OTXDataModule(),  # The data module to use for predictions
        dump=True,  # Wherether to save saliency map images or not
    )

    assert run.explained == 2
    pictures = {path.relative_to("out/saliency_map").as_posix() for path in Path("out/saliency_map").rglob("*.png")}
    assert {name.split("_class_")[0] for name in pictures} == {"a/first", "second"}
    assert all(name.endswith(("_saliency_map.png", "_overlay.png")) for name in pictures)
