"""What annotation tools and libraries make of files in their formats.

Runs where they are installed. tests/preprocessing/test_other_tools.py runs `python
annotation_tools.py FOLDER`, which holds

    garments.json       what is annotated: {"names": category -> its keypoints, "garments": [...]}
    images/             the pictures
    ours/FORMAT/        the same as preprocessing.writers writes it, with the pictures

A garment is {"image", "size": [h, w], "category", "points": name -> [x, y, v], "box": [4]}, in px
from the outer corner of the picture; v is 1 visible, 0 occluded; points that are absent are not
there. Each of READ reads ours/FORMAT, to read/NAME.json, a list of garments; each of WRITE writes
theirs/NAME/, with its own functions, in its format. Where a tool fails, read/NAME.error or
theirs/NAME.error tells why; where it is not installed, NAME.missing is there.

Garments of one tool may lack what it does not read: the box, the category, which points are hidden.
"""

from __future__ import annotations

import collections
import contextlib
import json
import math
import os
import pathlib
import shutil
import sys
import traceback

HIDDEN = 'occluded'


def _garment(image, category, points, box=None) -> dict:
    return {'image': image, 'category': category, 'points': points, 'box': box}


def _by_image(garments: list[dict]) -> dict[str, list[dict]]:
    found = collections.defaultdict(list)
    for garment in garments:
        found[garment['image']].append(garment)
    return found


def _copy_pictures(folder: pathlib.Path, target: pathlib.Path) -> None:
    shutil.copytree(folder / 'images', target, dirs_exist_ok=True)


def _rows(names, numbers) -> dict:
    """Return points by name, from x, y and COCO's visibility of each."""
    rows = zip(names, numbers[::3], numbers[1::3], numbers[2::3])
    return {name: [float(x), float(y), int(v) - 1] for name, x, y, v in rows if v > 0}


# The COCO tool.


def _of_coco_api(api) -> list[dict]:
    found = []
    for one in api.loadAnns(sorted(api.getAnnIds())):
        (image,), (category,) = (
            api.loadImgs(one['image_id']),
            api.loadCats(one['category_id']),
        )
        x, y, width, height = one['bbox']
        points = _rows(category['keypoints'], one['keypoints'])
        box = [x, y, x + width, y + height]
        found.append(_garment(image['file_name'], category['name'], points, box))
    return found


def _read_pycocotools(ours: pathlib.Path) -> list[dict]:
    from pycocotools.coco import COCO

    return _of_coco_api(COCO(ours / 'coco/annotations.json'))


def _read_results(ours: pathlib.Path) -> list[dict]:
    """Read the results beside the annotations, and score them: all are right."""
    import numpy as np
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    api = COCO(ours / 'coco/annotations.json')
    results = api.loadRes(str(ours / 'coco_results/results.json'))
    for category in api.loadCats(api.getCatIds()):
        evaluation = COCOeval(api, results, 'keypoints')
        evaluation.params.catIds = [category['id']]
        evaluation.params.kpt_oks_sigmas = np.full(len(category['keypoints']), 0.05)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
        assert evaluation.stats[0] > 0.999, evaluation.stats
    found = []
    for one in results.loadAnns(sorted(results.getAnnIds())):
        (image,), (category,) = api.loadImgs(one['image_id']), api.loadCats(one['category_id'])
        rows = zip(category['keypoints'], one['keypoints'][::3], one['keypoints'][1::3])
        points = {name: [x, y, 1] for name, x, y in rows if (x, y) != (0, 0)}
        found.append(_garment(image['file_name'], category['name'], points))
    return found


# Datumaro.


def _datumaro_garments(dataset) -> list[dict]:
    """Return skeletons with their boxes."""
    import datumaro as dm

    labels = dataset.categories()[dm.AnnotationType.label]
    skeletons = dataset.categories().get(dm.AnnotationType.points)
    found = []
    for item in dataset:
        boxes = {a.group: a for a in item.annotations if a.type == dm.AnnotationType.bbox}
        for one in item.annotations:
            if one.type != dm.AnnotationType.points:
                continue
            names = skeletons.items[one.label].labels
            numbers = [n for k, v in enumerate(one.visibility)
                       for n in (*one.points[2 * k : 2 * k + 2], v.value)]  # fmt: skip
            box = boxes.get(one.group)
            corners = None if box is None else list(box.points)
            name = pathlib.Path(item.media.path).name
            found.append(_garment(name, labels[one.label].name, _rows(names, numbers), corners))
    return found


def _read_datumaro_coco(ours: pathlib.Path) -> list[dict]:
    import datumaro as dm

    root = ours / 'datumaro_coco'
    _copy_pictures(ours.parent, root / 'images')
    (root / 'annotations').mkdir()
    shutil.copy(ours / 'coco/annotations.json', root / 'annotations/person_keypoints_all.json')
    return _datumaro_garments(dm.Dataset.import_from(str(root), 'coco_person_keypoints'))


def _write_datumaro_coco(folder: pathlib.Path, target: pathlib.Path, told: dict) -> None:
    import datumaro as dm
    from datumaro.components.annotation import Points, PointsCategories

    categories = list(told['names'])
    skeletons = PointsCategories()
    for number, category in enumerate(categories):
        skeletons.add(number, told['names'][category])
    items = []
    for image, own in _by_image(told['garments']).items():
        annotations = []
        for group, one in enumerate(own, 1):
            label, numbers, states = categories.index(one['category']), [], []
            for name in told['names'][one['category']]:
                x, y, v = one['points'].get(name, (0, 0, -1))
                numbers += [x, y]
                states.append(Points.Visibility(v + 1))
            common = {'label': label, 'group': group, 'id': len(items) * 10 + group}
            x1, y1, x2, y2 = one['box']
            annotations.append(dm.Bbox(x1, y1, x2 - x1, y2 - y1, **common))
            annotations.append(Points(numbers, states, **common))
        media = dm.Image.from_file(path=str(folder / 'images' / image), size=own[0]['size'])
        name = pathlib.Path(image).stem
        items.append(dm.DatasetItem(name, subset='train', media=media, annotations=annotations))
    kinds = {
        dm.AnnotationType.label: dm.LabelCategories.from_iterable(categories),
        dm.AnnotationType.points: skeletons,
    }
    dataset = dm.Dataset.from_iterable(items, categories=kinds)
    dataset.export(str(target), 'coco_person_keypoints', save_media=True)


def _read_datumaro_cvat(ours: pathlib.Path) -> list[dict]:
    """Read points without skeletons, as this library knows them: by group. That a point is outside
    it does not read; such are at 0, 0.
    """
    import datumaro as dm

    root = ours / 'datumaro_cvat'
    _copy_pictures(ours.parent, root / 'images')
    shutil.copy(ours / 'cvat/annotations.xml', root / 'annotations.xml')
    dataset = dm.Dataset.import_from(str(root), 'cvat')
    labels = dataset.categories()[dm.AnnotationType.label]
    found = []
    for item in dataset:
        boxes = [a for a in item.annotations if a.type == dm.AnnotationType.bbox]
        for box in boxes:
            own = [
                a
                for a in item.annotations
                if a.type == dm.AnnotationType.points and a.group == box.group
            ]
            points = {
                labels[a.label].name: [*a.points, 0 if a.attributes['occluded'] else 1]
                for a in own
                if any(a.points)
            }
            name = pathlib.Path(item.media.path).name
            found.append(_garment(name, labels[box.label].name, points, list(box.points)))
    return found


def _write_datumaro_cvat(folder: pathlib.Path, target: pathlib.Path, told: dict) -> None:
    import datumaro as dm

    names = [*told['names'], *dict.fromkeys(n for own in told['names'].values() for n in own)]
    items = []
    for frame, (image, own) in enumerate(_by_image(told['garments']).items()):
        annotations = []
        for group, one in enumerate(own, 1):
            x1, y1, x2, y2 = one['box']
            label = names.index(one['category'])
            annotations.append(dm.Bbox(x1, y1, x2 - x1, y2 - y1, label=label, group=group))
            for name, (x, y, v) in one['points'].items():
                hidden = {HIDDEN: v == 0}
                point = dm.Points([x, y], label=names.index(name), group=group, attributes=hidden)
                annotations.append(point)
        media = dm.Image.from_file(path=str(folder / 'images' / image), size=own[0]['size'])
        name = pathlib.Path(image).stem
        items.append(
            dm.DatasetItem(name, media=media, annotations=annotations, attributes={'frame': frame})
        )
    dataset = dm.Dataset.from_iterable(items, categories=names)
    dataset.export(str(target), 'cvat', save_media=True)


# labelme.


def _read_labelme(ours: pathlib.Path) -> list[dict]:
    from labelme._label_file import LabelFile

    found = []
    for path in sorted((ours / 'labelme').glob('*.json')):
        file = LabelFile(str(path))
        groups = collections.defaultdict(lambda: ({}, []))
        for shape in file.shapes:
            points, boxes = groups[shape['group_id']]
            if shape['shape_type'] == 'rectangle':
                boxes.append((shape['label'], [n for corner in shape['points'] for n in corner]))
            else:
                ((x, y),) = shape['points']
                points[shape['label']] = [x, y, 0 if shape['flags'].get(HIDDEN) else 1]
        for points, ((category, box),) in groups.values():
            found.append(_garment(file.image_path, category, points, box))
    return found


def _write_labelme(folder: pathlib.Path, target: pathlib.Path, told: dict) -> None:
    from labelme._label_file import LabelFile

    _copy_pictures(folder, target)
    for image, own in _by_image(told['garments']).items():
        shapes = []
        for group, one in enumerate(own, 1):
            x1, y1, x2, y2 = one['box']
            # Drawn from another corner than the first.
            drawn = [(one['category'], 'rectangle', [[x1, y2], [x2, y1]], {})]
            for name, (x, y, v) in one['points'].items():
                drawn.append((name, 'point', [[x, y]], {HIDDEN: v == 0}))
            shapes += [
                {
                    'label': label,
                    'points': points,
                    'group_id': group,
                    'description': '',
                    'shape_type': kind,
                    'flags': flags,
                    'mask': None,
                }
                for label, kind, points, flags in drawn
            ]
        height, width = own[0]['size']
        path = target / f'{pathlib.Path(image).stem}.json'
        data = LabelFile.load_image_file(str(target / image))
        LabelFile().save(str(path), shapes, image, height, width, data)


# Label Studio.


def _label_studio_tasks(ours: pathlib.Path) -> list[dict]:
    """Return the tasks after a person has accepted their pre-annotations."""
    tasks = json.loads((ours / 'label_studio/tasks.json').read_text())
    for task in tasks:
        task['annotations'] = task.pop('predictions')
    return tasks


def _read_label_studio(ours: pathlib.Path) -> list[dict]:
    """Check the tasks with their configuration, as an import does: they are in its own format."""
    from label_studio_sdk.label_interface import LabelInterface

    config = (ours / 'label_studio/labeling_config.xml').read_text()
    interface = LabelInterface(config)
    interface.validate()
    found = []
    for task in json.loads((ours / 'label_studio/tasks.json').read_text()):
        assert interface.validate_task({'data': task['data']}), task['data']
        (prediction,) = task['predictions']
        errors = interface.validate_prediction(prediction, return_errors=True)
        assert not errors, errors
    return found


def _convert(ours: pathlib.Path, name: str) -> pathlib.Path:
    """Export as the tool does, in another format."""
    from label_studio_sdk.converter import Converter

    folder = ours / f'label_studio_{name}'
    folder.mkdir()
    tasks = folder / 'tasks.json'
    tasks.write_text(json.dumps(_label_studio_tasks(ours)))
    converter = Converter(
        str(ours / 'label_studio/labeling_config.xml'),
        str(ours.parent / 'images'),
        download_resources=False,
    )
    export = getattr(converter, f'convert_to_{name}')
    export(str(tasks), str(folder / 'out'), is_dir=False)
    return folder / 'out'


def _read_label_studio_coco(ours: pathlib.Path) -> list[dict]:
    """Read what it exports: one list of points for each picture, in whole px, all of them visible;
    told are the pictures with one garment.
    """
    data = json.loads((_convert(ours, 'coco') / 'result.json').read_text())
    images = {one['id']: one['file_name'] for one in data['images']}
    categories = {one['id']: one for one in data['categories']}
    boxes, points = collections.defaultdict(list), {}
    for one in data['annotations']:
        category = categories[one['category_id']]
        if 'keypoints' in one:
            points[one['image_id']] = _rows(category['keypoints'], one['keypoints'])
        else:
            boxes[one['image_id']].append((category['name'], one['bbox']))
    found = []
    for image_id, own in boxes.items():
        if len(own) == 1:
            ((category, (x, y, width, height)),) = own
            name, box = pathlib.Path(images[image_id]).name, [x, y, x + width, y + height]
            found.append(_garment(name, category, points[image_id], box))
    return found


def _read_label_studio_yolo(ours: pathlib.Path) -> list[dict]:
    folder = _convert(ours, 'yolo')
    told = json.loads((ours.parent / 'garments.json').read_text())
    sizes = {one['image']: one['size'] for one in told['garments']}
    names = list(dict.fromkeys(n for own in told['names'].values() for n in own))
    classes = (folder / 'classes.txt').read_text().splitlines()
    found = []
    for image, (height, width) in sizes.items():
        path = folder / 'labels' / f'{pathlib.Path(image).stem}.txt'
        for line in path.read_text().splitlines():
            found.append(_yolo_garment(image, line, classes, names, (width, height)))
    return found


def _yolo_garment(image, line, classes, names, sides) -> dict:
    number, x, y, width, height, *rest = map(float, line.split())
    box = [x - width / 2, y - height / 2, x + width / 2, y + height / 2]
    box = [share * sides[k % 2] for k, share in enumerate(box)]
    pixels = [n if k % 3 == 2 else n * sides[k % 3] for k, n in enumerate(rest)]
    return _garment(image, classes[int(number)], _rows(names, pixels), box)


# Ultralytics.


def _read_ultralytics(ours: pathlib.Path) -> list[dict]:
    """Check the data as a training does: data.yaml, then each picture with its labels."""
    from ultralytics.data.utils import check_det_dataset, img2label_paths, verify_image_label

    root = ours / 'ultralytics'
    shutil.copytree(ours / 'yolo', root)
    _copy_pictures(ours.parent, root / 'images')
    text = (root / 'data.yaml').read_text()
    (root / 'data.yaml').write_text(f'{text}val: train.txt\n')
    elsewhere = root / 'elsewhere'
    elsewhere.mkdir()
    os.chdir(elsewhere)
    data = check_det_dataset(str(root / 'data.yaml'), autodownload=False)
    # As its data sets read a list: what begins with ./ is relative to the list.
    lines = pathlib.Path(data['train']).read_text().splitlines()
    images = [line.replace('./', f'{root}/', 1) for line in lines]
    count, dimensions = data['kpt_shape']
    found = []
    for image, labels in zip(images, img2label_paths(images)):
        arguments = (image, labels, '', True, data['nc'], count, dimensions, False)
        _, rows, (height, width), _, keypoints, *_, is_corrupt, message = verify_image_label(
            arguments
        )
        assert not is_corrupt and not message, message
        for row, points in zip(rows, keypoints):
            x, y, w, h = row[1:5]
            box = [(x - w / 2) * width, (y - h / 2) * height]
            box += [(x + w / 2) * width, (y + h / 2) * height]
            numbers = (points * [width, height, 1]).ravel().tolist()
            names = data['kpt_names'][int(row[0])]
            garment = _rows(names, numbers)
            name = pathlib.Path(image).name
            found.append(_garment(name, data['names'][int(row[0])], garment, list(map(float, box))))
    return found


# sleap-io.


def _sleap_garments(labels) -> list[dict]:
    found = []
    for frame in labels:
        name = frame.video.filename
        name = pathlib.Path(name[frame.frame_idx] if isinstance(name, list) else name).name
        for instance in frame.instances:
            rows = zip(instance.skeleton.node_names, instance.numpy())
            points = {n: [float(x), float(y), 1] for n, (x, y) in rows if not math.isnan(x)}
            found.append(_garment(name, instance.skeleton.name, points))
    return found


def _read_sleap_coco(ours: pathlib.Path) -> list[dict]:
    import sleap_io

    root = str(ours.parent / 'images')
    path = str(ours / 'coco/annotations.json')
    return _sleap_garments(sleap_io.load_coco(path, dataset_root=root))


def _sleap_labels(folder: pathlib.Path, told: dict, category: str):
    """Return the garments of a category as this library has them: a skeleton, a video a picture."""
    import sleap_io

    names = told['names'][category]
    skeleton = sleap_io.Skeleton(list(names), name=category)
    frames = []
    own = [one for one in told['garments'] if one['category'] == category]
    for image, garments in _by_image(own).items():
        absent = [math.nan, math.nan]
        instances = [
            sleap_io.Instance({n: one['points'].get(n, absent)[:2] for n in names}, skeleton)
            for one in garments
        ]
        video = sleap_io.Video.from_filename([str(folder / 'images' / image)])
        frames.append(sleap_io.LabeledFrame(video=video, frame_idx=0, instances=instances))
    return sleap_io.Labels(frames)


def _write_sleap_coco(folder: pathlib.Path, target: pathlib.Path, told: dict) -> None:
    import sleap_io

    _copy_pictures(folder, target / 'images')
    labels = _sleap_labels(folder, told, next(iter(told['names'])))
    sleap_io.save_coco(labels, str(target / 'train.json'))


def _write_sleap_label_studio(folder: pathlib.Path, target: pathlib.Path, told: dict) -> None:
    """It tells no picture in the data of a task, which is put there."""
    import sleap_io

    _copy_pictures(folder, target / 'images')
    labels = _sleap_labels(folder, told, next(iter(told['names'])))
    path = target / 'export.json'
    sleap_io.save_labelstudio(labels, str(path))
    tasks = json.loads(path.read_text())
    for task in tasks:
        (path_of_frame,) = task['meta']['video']['filename']
        task['data']['image'] = pathlib.Path(path_of_frame).name
    path.write_text(json.dumps(tasks))


def _write_sleap_yolo(folder: pathlib.Path, target: pathlib.Path, told: dict) -> None:
    import sleap_io

    labels = _sleap_labels(folder, told, next(iter(told['names'])))
    sleap_io.save_ultralytics(labels, str(target), split_ratios={'train': 1.0}, verbose=False)
    names = [pathlib.Path(frame.video.filename[0]).name for frame in labels]
    (target / 'order.json').write_text(json.dumps(names))


# DeepLabCut.


def _write_deeplabcut(folder: pathlib.Path, target: pathlib.Path, told: dict) -> None:
    """Write a table with pandas as DeepLabCut saves what was labelled: three header rows, and a
    path of three parts; with individuals where there are several garments.
    """
    import pandas as pd

    _copy_pictures(folder, target / 'labeled-data/shop')
    names = list(dict.fromkeys(n for own in told['names'].values() for n in own))
    by_image = _by_image(told['garments'])
    people = [f'garment{n}' for n in range(1, 1 + max(map(len, by_image.values())))]
    levels = ['scorer', 'individuals', 'bodyparts', 'coords']
    columns = pd.MultiIndex.from_product([['me'], people, names, ['x', 'y']], names=levels)
    index = pd.MultiIndex.from_tuples([('labeled-data', 'shop', image) for image in by_image])
    frame = pd.DataFrame(index=index, columns=columns, dtype=float)
    for row, own in zip(index, by_image.values()):
        for person, one in zip(people, own):
            for name, (x, y, _) in one['points'].items():
                frame.loc[row, ('me', person, name, 'x')] = x
                frame.loc[row, ('me', person, name, 'y')] = y
    frame.to_csv(target / 'labeled-data/shop/CollectedData_me.csv')


READ = {
    'pycocotools': _read_pycocotools,
    'pycocotools_results': _read_results,
    'datumaro_coco': _read_datumaro_coco,
    'datumaro_cvat': _read_datumaro_cvat,
    'labelme': _read_labelme,
    'label_studio': _read_label_studio,
    'label_studio_coco': _read_label_studio_coco,
    'label_studio_yolo': _read_label_studio_yolo,
    'ultralytics': _read_ultralytics,
    'sleap_coco': _read_sleap_coco,
}
WRITE = {
    'datumaro_coco': _write_datumaro_coco,
    'datumaro_cvat': _write_datumaro_cvat,
    'labelme': _write_labelme,
    'sleap_coco': _write_sleap_coco,
    'sleap_label_studio': _write_sleap_label_studio,
    'sleap_yolo': _write_sleap_yolo,
    'deeplabcut': _write_deeplabcut,
}


@contextlib.contextmanager
def _told(path: pathlib.Path):
    """Write why something failed to PATH.error, or PATH.missing where a tool is not installed."""
    try:
        yield
    except ModuleNotFoundError as error:
        path.with_name(f'{path.name}.missing').write_text(str(error))
    except Exception:
        path.with_name(f'{path.name}.error').write_text(traceback.format_exc())


def main(folder: pathlib.Path) -> None:
    told = json.loads((folder / 'garments.json').read_text())
    for part in ('read', 'theirs'):
        (folder / part).mkdir()
    for name, read in READ.items():
        path = folder / 'read' / name
        with _told(path):
            garments = read(folder / 'ours')
            path.with_name(f'{name}.json').write_text(json.dumps(garments))
    for name, write in WRITE.items():
        target = folder / 'theirs' / name
        with _told(target):
            target.mkdir()
            write(folder, target, told)


if __name__ == '__main__':
    root = pathlib.Path(sys.argv[1]).resolve()
    # Both are read when modules are imported.
    os.environ['YOLO_CONFIG_DIR'] = str(root)
    os.environ['LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT'] = str(root / 'images')
    main(root)
