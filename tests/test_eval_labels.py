"""From records to a page and a CSV of corrections, and from there to corrected records."""

import csv
import html
import html.parser
import json
import re

import numpy as np
import pytest

import eval_labels
from preprocessing import files, tables
from preprocessing.conversion import convert as conversion
from preprocessing.datasets.fashionai import SCHEMA
from tests.commands import call, check_mistake
from tests.tiny_records import write_records
from tests.tiny_shapes import SIZE, exchange, make_table
from utility.labels import audit
from utility.visualization.draw import encode_image

SKIRT, TROUSERS = 3, 70  # rows of pictures with mistakes
EVIL = 'Images/skirt/<b onload="x">&.jpg'


def convert(data_dir, records_dir, **options):
    settings = conversion.Settings(str(data_dir), str(records_dir), val_fraction=0.2, **options)
    return conversion.convert(settings, lambda items, total, label: items)


class Made:
    """A data set with three mistakes, its records, and what eval_labels.py says of them."""

    def __init__(self, directory):
        self.directory = directory
        self.right = make_table({'skirt': 60, 'trousers': 40})
        self.right.image_ids[SKIRT] = EVIL
        wrong = exchange(self.right, SKIRT, ('hemline_left', 'hemline_right'))
        wrong = exchange(wrong, TROUSERS, ('bottom_left_in', 'bottom_left_out'))
        self.write(wrong)
        convert(directory / 'data', directory / 'records')
        self.splits = f'{directory}/records/train,{directory}/records/val'
        self.done = call(
            'eval_labels.py',
            f'--data_dir={self.splits}',
            f'--output_dir={directory}/audit',
            f'--output_json={directory}/audit.json',
            '--apply_geometry',
        )

    def write(self, table):
        """Write the pictures, each of another gray, and the annotations."""
        root = self.directory / 'data' / 'train_0'
        for number, image_id in enumerate(table.image_ids):
            image = np.full((SIZE, SIZE, 3), 100 + number, np.uint8)
            files.write_bytes(root / image_id, encode_image(image, '.jpg'))
        tables.write_table(root / 'Annotations' / 'annotations.csv', table, SCHEMA)

    def rows(self):
        with (self.directory / 'audit' / 'corrections.csv').open(newline='') as file:
            return list(csv.DictReader(file))

    def page(self):
        return (self.directory / 'audit' / 'index.html').read_text()


@pytest.fixture(scope='module')
def made(tmp_path_factory):
    return Made(tmp_path_factory.mktemp('labels'))


class _Tags(html.parser.HTMLParser):
    """All tags of a page with their attributes, and those that are not closed."""

    def __init__(self, text):
        super().__init__()
        self.found, self.open = [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))
        if tag not in ('meta', 'img', 'br', 'input', 'link'):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def of(self, tag):
        return [attributes for name, attributes in self.found if name == tag]


def test_the_command_tells_what_it_found(made):
    assert made.done.returncode == 0, made.done.stderr
    assert '2 suspicions in 100 pictures, 2 written' in made.done.stdout
    assert re.search(r'left and right exchanged +0 +0 +0 +1 +0 +1\n', made.done.stdout)
    assert f'{made.directory}/audit/corrections.csv: 4 points' in made.done.stdout


def test_corrections_say_what_is_and_what_should_be(made):
    found = {(row['image_id'], row['keypoint']): row for row in made.rows()}
    assert len(found) == 4
    for row, names in (
        (SKIRT, ('hemline_left', 'hemline_right')),
        (TROUSERS, ('bottom_left_in', 'bottom_left_out')),
    ):
        for name, partner in zip(names, names[::-1]):
            one = found[made.right.image_ids[row], name]
            place, other = (
                made.right.keypoints[row, SCHEMA.keypoints.index(n)] - 0.5 for n in (name, partner)
            )
            assert [float(one[c]) for c in ('to_x', 'to_y', 'to_v')] == [*place, 1]
            assert [float(one[c]) for c in ('from_x', 'from_y', 'from_v')] == [*other, 1]
            assert one['kind'] == ('sides' if row == SKIRT else 'in_out')
    scores = [float(row['score']) for row in made.rows()]
    assert scores == sorted(scores, reverse=True)


def test_corrections_can_be_applied_and_then_nothing_is_left_to_correct(made):
    path = made.directory / 'audit' / 'corrections.csv'
    corrected = made.directory / 'corrected'
    info = convert(made.directory / 'data', corrected, corrections=str(path))
    assert info['corrections']['kinds'] == {'in_out': 2, 'sides': 2}
    table, schema = eval_labels.read_annotations([f'{corrected}/train', f'{corrected}/val'])
    assert schema is SCHEMA and (table.image_sizes == SIZE).all()
    order = [list(table.image_ids).index(image_id) for image_id in made.right.image_ids]
    np.testing.assert_array_equal(table.visibility[order], made.right.visibility)
    there = made.right.visibility >= 0
    np.testing.assert_array_equal(table.keypoints[order][there], made.right.keypoints[there])


def test_the_page_loads_nothing_and_runs_nothing(made):
    page = made.page()
    tags = _Tags(page)
    assert not tags.open
    assert not {'script', 'link', 'iframe', 'object'} & {tag for tag, _ in tags.found}
    assert not any(name.startswith('on') for _, attributes in tags.found for name in attributes)
    assert {a['href'][0] for a in tags.of('a')} == {'#'}
    assert 'url(' not in page and '@import' not in page
    (policy,) = (m['content'] for m in tags.of('meta') if 'http-equiv' in m)
    assert policy.startswith("default-src 'none'")
    assert EVIL not in page and '&lt;b onload=' in page


def test_every_suspicion_has_a_picture_with_words_for_it(made):
    pictures = _Tags(made.page()).of('img')
    assert len(pictures) == 2
    for picture in pictures:
        assert picture['src'].startswith('data:image/jpeg;base64,')
        assert int(picture['width']) > 50 and int(picture['height']) > 50
    words = {picture['alt'] for picture in pictures}
    assert any('hemline_left from' in one and ' to ' in one for one in words)
    assert any(one.startswith('trousers: inner and outer end exchanged') for one in words)


def test_the_page_can_be_filtered_by_radio_buttons_with_labels(made):
    tags = _Tags(made.page())
    buttons = tags.of('input')
    assert {one['type'] for one in buttons} == {'radio'}
    assert [one['name'] for one in buttons] == ['category'] * 3 + ['kind'] * 3
    assert len(tags.of('label')) == len(buttons) and len(tags.of('legend')) == 2
    cards = [item['class'].split() for item in tags.of('li')]
    assert sorted(cards) == [
        ['card', 'category-skirt', 'kind-sides'],
        ['card', 'category-trousers', 'kind-in_out'],
    ]
    for name in ('category-skirt', 'kind-in_out'):
        rule = f'body:has(#{name}:checked) li.card:not(.{name}) {{ display: none; }}'
        assert rule in made.page()
        assert name in [one.get('id') for one in buttons]


def test_lines_on_the_page_are_those_of_the_file(made):
    rows = made.rows()
    pattern = r'lines ([\d, ]+)<br>\s*<span class="muted">([^<]*)<'
    told = re.findall(pattern, made.page())
    assert len(told) == 2
    for lines, image_id in told:
        for line in map(int, lines.split(',')):
            assert rows[line - 2]['image_id'] == html.unescape(image_id)


def test_scores_on_the_page_are_those_of_the_file_and_no_percentages(made):
    told = re.findall(r'score ([\d.]+), cost', made.page())
    assert sorted(set(told)) == sorted({row['score'] for row in made.rows()})
    assert '%' not in re.sub(r'<style>.*?</style>|data:[^"]*', '', made.page(), flags=re.DOTALL)


def test_what_no_network_has_seen_is_not_corrected_unless_it_is_asked_for(made):
    table, schema = eval_labels.read_annotations(made.splits.split(','))
    found = audit.audit(table, table.image_sizes, schema)
    assert len(found) == 2
    predictions = np.full((*table.visibility.shape, 2), np.nan)
    predictions[found[0].row] = 1.0
    rows, lines = eval_labels.corrections_of(found, table, schema, predictions)
    assert {row.image_id for row in rows} == {table.image_ids[found[0].row]}
    assert [len(own) for own in lines] == [2, 0]
    assert len(eval_labels.corrections_of(found, table, schema, None)[0]) == 4


def test_json_holds_all_suspicions(made):
    report = json.loads((made.directory / 'audit.json').read_text())
    assert report['pictures'] == 100
    assert {(one['image_id'], one['kind']) for one in report['suspicions']} == {
        (EVIL, 'sides'),
        (made.right.image_ids[TROUSERS], 'in_out'),
    }
    assert all(0.5 < one['evidence'] <= 1 for one in report['suspicions'])


def test_predictions_of_folds_are_used_and_count_limits_what_is_written(made, tmp_path):
    far = made.right.keypoints.copy()
    far[10, SCHEMA.keypoints.index('hemline_left')] += 25
    right = made.right._replace(keypoints=far)
    for number, rows in enumerate((range(50), range(50, 90))):
        part = right.rows(list(rows))
        tables.write_table(tmp_path / f'{number}.csv', part, SCHEMA)
    done = call(
        'eval_labels.py',
        f'--data_dir={made.splits}',
        f'--predictions={tmp_path}/0.csv,{tmp_path}/1.csv',
        f'--output_dir={tmp_path}/audit',
        '--count=1',
        '--output_format=labelme',
    )
    assert done.returncode == 0, done.stderr
    assert 'predictions of 90 of 100 pictures' in done.stdout
    assert '3 suspicions in 100 pictures, 1 written' in done.stdout
    assert 'the\n1 worst of them are shown' in (tmp_path / 'audit' / 'index.html').read_text()
    assert len((tmp_path / 'audit' / 'corrections.csv').read_text().splitlines()) == 3
    # The suspect picture, as it is annotated, for a tool.
    [path] = (tmp_path / 'audit' / 'annotations').rglob('*.json')
    points = [s for s in json.loads(path.read_text())['shapes'] if s['shape_type'] == 'point']
    assert {point['label'] for point in points} == set(SCHEMA.categories['skirt'])
    assert '1 suspect annotations, as labelme' in done.stdout


@pytest.mark.parametrize(
    ('flags', 'message'),
    [
        ([], '--data_dir is missing'),
        (['--data_dir=RECORDS/train', '--predictions=a.csv', '--model_dir=b'], 'give either'),
        (['--data_dir=nowhere/train'], 'no nowhere/dataset.json'),
        (['--data_dir=RECORDS/test_0'], "'RECORDS/test_0' is not a labelled split"),
        (['--data_dir=RECORDS/train', '--predictions=no.csv'], 'no.csv'),
        (['--data_dir=RECORDS/train', '--predictions=OTHER'], 'not one of the pictures'),
        (['--data_dir=RECORDS/train', '--min_evidence=1'], 'min_evidence=1.0: must be'),
        (['--data_dir=RECORDS/train', '--count=0'], 'count'),
        (['--data_dir=RECORDS/train,RECORDS/train/'], "'RECORDS/train' is given twice"),
        (['--data_dir=RECORDS/train', '--scales=1,2'], '--scales is for predicting with --model'),
    ],
)
def test_mistakes_of_the_user_are_one_line(tmp_path, flags, message):
    records_dir = write_records(
        tmp_path / 'records', {'train': {'skirt': 2}, 'test_0': {'skirt': 1}}, 32
    )
    other = tmp_path / 'other.csv'
    tables.write_table(other, make_table({'skirt': 2}), SCHEMA)
    names = {'RECORDS': records_dir, 'OTHER': str(other)}

    def named(text):
        for name, place in names.items():
            text = text.replace(name, place)
        return text

    done = call('eval_labels.py', *map(named, flags), f'--output_dir={tmp_path}/audit')
    check_mistake(done, named(message))
    assert not (tmp_path / 'audit').exists()
