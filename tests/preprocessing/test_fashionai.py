"""FashionAI: the facts of its schema, and where its splits and pictures are found."""

import csv
import gzip

import numpy as np
import pytest

from preprocessing.datasets import DATASETS, fashionai_layouts
from preprocessing.datasets.fashionai import SCHEMA, find_splits

HEADER = ['image_id', 'image_category', *SCHEMA.keypoints]


def test_the_schema_is_registered():
    spec = DATASETS.get('fashionai')
    assert spec.schema is SCHEMA
    assert spec.find_splits is find_splits


def test_the_order_of_the_points():
    assert SCHEMA.num_keypoints == 24
    landmarks = {'neckline_left': 0, 'center_front': 2, 'armpit_left': 5, 'waistline_left': 7}
    landmarks.update(cuff_left_in=9, top_hem_left=13, waistband_left=15, hemline_left=17)
    landmarks.update(crotch=19, bottom_left_in=20, bottom_right_out=23)
    assert {name: SCHEMA.keypoints.index(name) for name in landmarks} == landmarks


@pytest.mark.parametrize(
    ('category', 'indices', 'normalizer'),
    [
        ('blouse', (0, 1, 2, 3, 4, 5, 6, 9, 10, 11, 12, 13, 14), (5, 6)),
        ('dress', (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 17, 18), (5, 6)),
        ('outwear', (0, 1, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14), (5, 6)),
        ('skirt', (15, 16, 17, 18), (15, 16)),
        ('trousers', (15, 16, 19, 20, 21, 22, 23), (15, 16)),
    ],
)
def test_the_points_of_a_category(category, indices, normalizer):
    assert SCHEMA.indices(category) == indices
    assert SCHEMA.normalizer_indices(category) == normalizer


def test_the_flip_permutation():
    expected = '1 0 2 4 3 6 5 8 7 11 12 9 10 14 13 16 15 18 17 19 22 23 20 21'
    assert SCHEMA.flip_permutation == tuple(map(int, expected.split()))
    assert SCHEMA.subset('skirt').flip_permutation == (1, 0, 3, 2)


def cells(category):
    own = SCHEMA.indices(category)
    return [f'{k}_{2 * k}_1' if k in own else '-1_-1_-1' for k in range(24)]


def write_csv(path, image_ids, labelled=True, category='skirt'):
    path.parent.mkdir(parents=True, exist_ok=True)
    opener = gzip.open if path.suffix == '.gz' else open
    with opener(path, 'wt', newline='') as file:
        writer = csv.writer(file)
        writer.writerow(HEADER if labelled else HEADER[:2])
        for image_id in image_ids:
            writer.writerow([image_id, category, *(cells(category) if labelled else [])])


def touch(*paths):
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b'x')


def found(data_dir):
    """Return the split name -> (labelled, {image_id: path of its picture below data_dir})."""
    return {
        split.name: (
            split.labelled,
            {one.image_id: one.image_path[len(str(data_dir)) + 1 :] for one in split.annotations()},
        )
        for split in find_splits(str(data_dir))
    }


def test_layout_of_2018(tmp_path):
    write_csv(tmp_path / 'train_0' / 'Annotations' / 'annotations.csv', ['Images/skirt/a.jpg'])
    write_csv(tmp_path / 'test_0' / 'test.csv', ['Images/skirt/b.jpg'], labelled=False)
    touch(tmp_path / 'train_0/Images/skirt/a.jpg', tmp_path / 'test_0/Images/skirt/b.jpg')
    (tmp_path / 'submissions').mkdir()
    write_csv(tmp_path / 'submissions' / 'one.csv', ['Images/skirt/b.jpg'])
    write_csv(tmp_path / 'ensemble.csv', ['Images/skirt/b.jpg'])
    assert found(tmp_path) == {
        'test_0': (False, {'Images/skirt/b.jpg': 'test_0/Images/skirt/b.jpg'}),
        'train_0': (True, {'Images/skirt/a.jpg': 'train_0/Images/skirt/a.jpg'}),
    }


@pytest.mark.parametrize(
    'image_id',
    ['train1/Images/skirt/a.jpg', 'train1/skirt/a.jpg', 'Images/skirt/a.jpg', 'skirt/a.jpg'],
)
@pytest.mark.parametrize('pictures', ['train1/skirt/a.jpg', 'train1/Images/skirt/a.jpg'])
@pytest.mark.parametrize(
    'table',
    [
        'train1/Annotations/any.csv',
        'train1/any.csv.gz',
        'train1.csv',
        'fashionAI_keypoints_train1.csv',
        'Annotations/train1_2018.csv',
        'train_extracted.csv',
    ],
)
def test_layouts_of_the_re_release(tmp_path, image_id, pictures, table):
    write_csv(tmp_path / table, [image_id])
    touch(tmp_path / pictures)
    assert found(tmp_path) == {'train1': (True, {image_id: pictures})}


def test_one_csv_for_two_directories(tmp_path):
    ids = ['train1/Images/skirt/a.jpg', 'train2/Images/skirt/a.jpg', 'Images/skirt/b.jpg']
    write_csv(tmp_path / 'train_extracted.csv', ids)
    write_csv(tmp_path / 'test_extracted.csv', ['test/skirt/c.jpg'], labelled=False)
    paths = ['train1/skirt/a.jpg', 'train2/skirt/a.jpg', 'train2/skirt/b.jpg']
    touch(*(tmp_path / path for path in [*paths, 'test/skirt/c.jpg']))
    assert found(tmp_path) == {
        'test': (False, {'test/skirt/c.jpg': 'test/skirt/c.jpg'}),
        'train': (True, dict(zip(ids, paths))),
    }


def test_the_csv_of_another_directory_is_not_taken(tmp_path, caplog):
    write_csv(tmp_path / 'train2.csv', ['skirt/a.jpg'])
    touch(tmp_path / 'train1/skirt/a.jpg', tmp_path / 'train2/skirt/a.jpg')
    assert found(tmp_path) == {'train2': (True, {'skirt/a.jpg': 'train2/skirt/a.jpg'})}
    assert 'train1 has pictures but no CSV' in caplog.text


@pytest.mark.parametrize(
    ('tables', 'chosen'),
    [
        (['test.csv', 'my_submission.csv'], 'test.csv'),
        (['test.csv', 'fashionAI_key_points_test_a_answer_20180426.csv'], 'fashionAI'),
        (['Annotations/train.csv', 'Annotations/train_split.csv'], 'Annotations/train.csv'),
        (['Annotations/x.csv', 'train.csv'], 'Annotations/x.csv'),
        (['r1_test_a.csv', 'x.csv'], 'r1_test_a.csv'),
    ],
)
def test_which_of_several_tables(tmp_path, tables, chosen):
    for table in tables:
        write_csv(tmp_path / 'r1_test_a' / table, ['skirt/a.jpg'])
    touch(tmp_path / 'r1_test_a/Images/skirt/a.jpg')
    (split,) = find_splits(str(tmp_path))
    assert split.files[0].startswith(str(tmp_path / 'r1_test_a' / chosen))


def test_tables_that_cannot_be_told_apart_are_an_error(tmp_path):
    for name in ('x.csv', 'y.csv'):
        write_csv(tmp_path / 'train_0' / 'Annotations' / name, ['skirt/a.jpg'])
    touch(tmp_path / 'train_0/Images/skirt/a.jpg')
    with pytest.raises(ValueError, match=r'which CSV .*x\.csv, .*y\.csv'):
        find_splits(str(tmp_path))


def test_nothing_found_is_an_error_that_tells_what_was_looked_for(tmp_path):
    with pytest.raises(ValueError, match='no directory'):
        find_splits(str(tmp_path / 'absent'))
    touch(tmp_path / 'notes' / 'a.txt')
    with pytest.raises(ValueError, match='looked for directories like train_0/Images.*holds notes'):
        find_splits(str(tmp_path))
    touch(tmp_path / 'train_0/Images/skirt/a.jpg')
    with pytest.raises(ValueError, match='no CSV for train_0'):
        find_splits(str(tmp_path))
    with pytest.raises(ValueError, match='is a split itself'):
        find_splits(str(tmp_path / 'train_0'))


def test_annotations_carry_the_points(tmp_path):
    write_csv(tmp_path / 'train_0/Annotations/a.csv', ['skirt/a.jpg'])
    write_csv(tmp_path / 'test_0/test.csv', ['skirt/a.jpg'], labelled=False)
    touch(tmp_path / 'train_0/skirt/a.jpg', tmp_path / 'test_0/skirt/a.jpg')
    test, train = (next(split.annotations()) for split in find_splits(str(tmp_path)))
    own = list(SCHEMA.indices('skirt'))
    expected = np.array([[k + 0.5, 2 * k + 0.5] for k in own])
    np.testing.assert_array_equal(train.keypoints[own], expected)
    np.testing.assert_array_equal(np.flatnonzero(train.visibility == 1), own)
    assert (np.delete(train.visibility, own) == -1).all()
    assert (test.visibility == -1).all()
    assert test.category == train.category == 'skirt'


@pytest.mark.parametrize(
    ('image_id', 'fault'),
    [
        ('/etc/passwd', 'absolute'),
        ('../secret.jpg', r"'\.\.'"),
        ('Images/../../secret.jpg', r"'\.\.'"),
        ('C:/x.jpg', 'drive letter'),
        ('c:x.jpg', 'drive letter'),
        ('..\\x.jpg', 'backslash'),
        ('gs://bucket/x.jpg', 'absolute'),
        ('a\x00b.jpg', 'control character'),
        ('  ', 'empty'),
    ],
)
def test_hostile_ids_are_refused(tmp_path, image_id, fault):
    touch(tmp_path / 'secret.jpg')
    with pytest.raises(ValueError, match=f'image_id .*{fault}'):
        fashionai_layouts.picture_path(image_id, [str(tmp_path / 'train_0')], str(tmp_path))


def test_a_hostile_id_is_refused_with_file_and_line(tmp_path):
    table = tmp_path / 'train_0' / 'Annotations' / 'a.csv'
    write_csv(table, ['skirt/a.jpg', '../b.jpg'])
    touch(tmp_path / 'train_0/skirt/a.jpg', tmp_path / 'b.jpg')
    (split,) = find_splits(str(tmp_path))
    with pytest.raises(ValueError, match=r"a\.csv, line 3: image_id '\.\./b\.jpg'"):
        list(split.annotations())


@pytest.mark.parametrize('before', ['', 'file://'])
@pytest.mark.parametrize('target', ['outside/secret.jpg', 'data/test_0/skirt/b.jpg'])
def test_a_link_out_of_the_split_is_refused(tmp_path, target, before):
    data, root = tmp_path / 'data', tmp_path / 'data' / 'train_0'
    touch(tmp_path / target, root / 'skirt/a.jpg')
    (root / 'skirt/link.jpg').symlink_to(tmp_path / target)
    (root / 'skirt/inner.jpg').symlink_to(root / 'skirt/a.jpg')

    def path(name):
        roots = [f'{before}{root}']
        return fashionai_layouts.picture_path(f'skirt/{name}', roots, f'{before}{data}')

    assert path('inner.jpg') == f'{before}{root}/skirt/inner.jpg'
    with pytest.raises(ValueError, match='symbolic link'):
        path('link.jpg')


def test_a_split_directory_may_be_a_link_itself(tmp_path):
    touch(tmp_path / 'disk2/skirt/a.jpg')
    (tmp_path / 'data').mkdir()
    root = tmp_path / 'data' / 'train1'
    root.symlink_to(tmp_path / 'disk2')
    for image_id in ('skirt/a.jpg', 'train1/skirt/a.jpg'):
        path = fashionai_layouts.picture_path(image_id, [str(root)], str(tmp_path / 'data'))
        assert path == str(root / 'skirt/a.jpg')


def test_a_picture_that_is_nowhere_gets_the_path_where_it_should_be(tmp_path):
    path = fashionai_layouts.picture_path('skirt/a.jpg', [str(tmp_path / 'train1')], str(tmp_path))
    assert path == str(tmp_path / 'train1/skirt/a.jpg')
