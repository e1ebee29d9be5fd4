import gzip
import lzma
import pickle

import pytest
import zstandard

from ctcd_jax.data.sources import Reading, files, open_source
from ctcd_jax.errors import UserError

TEXT = "One line.\nAnother line.\n\n\n  Second document.  \n\nThird, with an é.\n"
DOCUMENTS = [["One line.", "Another line."], ["Second document."], ["Third, with an é."]]


def read(spec, **reading):
    return [
        (file.name, [list(document.paragraphs) for document in file.documents(Reading(**reading))])
        for file in open_source(spec).files
    ]


def test_plain_and_compressed_text_are_the_same(tmp_path):
    raw = TEXT.encode()
    frames = [zstandard.ZstdCompressor().compress(part) for part in (raw[:20], raw[20:])]
    written = {"a.txt": raw, "a.gz": gzip.compress(raw), "a.xz": lzma.compress(raw), "a.zst": b"".join(frames)}
    for name, data in written.items():
        (tmp_path / name).write_bytes(data)
        assert read(f"text:{tmp_path / name}") == [(name, DOCUMENTS)]


def test_zstd_of_a_large_window_is_read(tmp_path):
    parameters = zstandard.ZstdCompressionParameters(window_log=28, write_content_size=False)
    compressor = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    (tmp_path / "a.zst").write_bytes(compressor.compress(TEXT.encode()) + compressor.flush())
    assert read(f"text:{tmp_path}/a.zst") == [("a.zst", DOCUMENTS)]


def test_a_byte_order_mark_and_windows_line_ends_are_no_text(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbf" + TEXT.replace("\n", "\r\n").encode())
    assert read(f"text:{tmp_path}/a.txt") == [("a.txt", DOCUMENTS)]


def test_a_document_ends_after_a_thousand_lines(tmp_path):
    (tmp_path / "a.txt").write_text("line\n" * 2500)
    [(_, documents)] = read(f"text:{tmp_path}/a.txt")
    assert [len(document) for document in documents] == [1000, 1000, 500]


def test_files_come_sorted_and_are_named_from_the_root_of_the_glob(library):
    found = open_source(f"text:{library}/**/*.txt").files
    assert [file.name for file in found] == ["a.txt", "b.txt", "sub/c.txt"]
    document = next(iter(found[2].documents(Reading())))
    assert (document.path, document.number) == ("sub/c.txt", 0)


def test_input_files_can_be_read_again(library):
    [file] = open_source(f"text:{library}/a.txt").files
    assert list(file.documents(Reading())) == list(file.documents(Reading()))


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("txt:a", "unknown kind 'txt' (did you mean 'text'?)"),
        ("text:a,split=train", "text knows no key 'split' (known: lines, share)"),
        ("hf:a,nam=x", "hf knows no key 'nam' (did you mean 'name'?)"),
        ("text:{library}/a.txt,share=0", "share=0 is not a number above 0 and at most 1"),
        ("text:{library}/a.txt,share=1.5", "share=1.5 is not a number above 0 and at most 1"),
        ("text:{library}/a.txt,share=half", "share=half is not a number above 0 and at most 1"),
        ("text:{library}/a.txt,share=nan", "share=nan is not a number above 0 and at most 1"),
        ("text:{library}/a.txt,lines=sentence", "lines=sentence is unknown (did you mean 'sentences'?)"),
        ("text:/nowhere/*.txt", "no file matches '/nowhere/*.txt'"),
        ("docstrings:/nowhere", "/nowhere is not a directory"),
    ],
)
def test_a_bad_spec_is_one_line(library, spec, message):
    spec = spec.format(library=library)
    with pytest.raises(UserError) as caught:
        open_source(spec)
    assert str(caught.value).startswith(f"source '{spec}': ")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("suffix", ["gz", "xz", "zst"])
@pytest.mark.parametrize("damage", ["cut", "other"])
def test_a_damaged_file_is_named(tmp_path, suffix, damage):
    compress = {"gz": gzip.compress, "xz": lzma.compress, "zst": zstandard.ZstdCompressor().compress}[suffix]
    text = "".join(f"{i * i} lines\n" for i in range(5000)).encode()
    (tmp_path / f"a.{suffix}").write_bytes(compress(text)[:-2000] if damage == "cut" else text)
    with pytest.raises(UserError, match=rf"a\.{suffix}: damaged"):
        read(f"text:{tmp_path}/a.{suffix}")


def test_share_and_lines_are_said_of_a_source(library):
    source = open_source(f"text:{library}/a.txt")
    assert (source.share, source.sentence_lines) == (1.0, False)
    spec = f"text:{library}/a.txt,share=0.25,lines=sentences"
    source = open_source(spec)
    assert (source.spec, source.share, source.sentence_lines) == (spec, 0.25, True)
    assert not open_source(f"text:{library}/a.txt,lines=paragraphs").sentence_lines


def test_a_long_plain_file_is_read_as_several_at_any_cut(tmp_path, monkeypatch):
    lines = ["One.", "A second line.", "é", "", "Three: as long as several ranges together.", "x", "", "", "Last"]
    path = tmp_path / "a.txt"
    for end in ("\n", ""):
        path.write_bytes(("\n".join(lines) + end).encode())
        size = path.stat().st_size
        for cut in range(1, size):
            monkeypatch.setattr(files, "RANGE_BYTES", cut)
            found = pickle.loads(pickle.dumps(open_source(f"text:{path}").files))
            assert [file.name for file in found] == [f"a.txt@{i}" for i in range(-(-size // cut))]
            assert sum(file.size for file in found) == size
            read = [line for file in found for document in file.documents(Reading()) for line in document.paragraphs]
            assert read == [line for line in lines if line]
        monkeypatch.setattr(files, "RANGE_BYTES", size)
        assert [file.name for file in open_source(f"text:{path}").files] == ["a.txt"]


def test_compressed_files_are_not_cut(tmp_path, monkeypatch):
    (tmp_path / "a.gz").write_bytes(gzip.compress(TEXT.encode()))
    monkeypatch.setattr(files, "RANGE_BYTES", 1)
    assert read(f"text:{tmp_path}/a.gz") == [("a.gz", DOCUMENTS)]


def test_a_range_says_how_much_of_it_has_been_read(tmp_path, monkeypatch):
    (tmp_path / "a.txt").write_text("a line\n" * 3000)
    monkeypatch.setattr(files, "RANGE_BYTES", 7 * 1500)
    for file in open_source(f"text:{tmp_path}/a.txt").files:
        reading = Reading()
        list(file.documents(reading))
        assert 0.3 < reading.share <= 1


def test_invalid_utf8_is_replaced_and_counted(tmp_path):
    (tmp_path / "a.txt").write_bytes("fine\nMäuse\nRäder".encode("latin-1"))
    [file] = open_source(f"text:{tmp_path}/a.txt").files
    reading = Reading()
    assert [document.paragraphs for document in file.documents(reading)] == [["fine", "M\ufffduse", "R\ufffdder"]]
    assert reading.invalid_lines == 2


@pytest.mark.parametrize("suffix", ["txt", "gz", "zst"])
def test_strict_names_the_line_that_is_not_utf8(tmp_path, suffix):
    compress = {"txt": bytes, "gz": gzip.compress, "zst": zstandard.ZstdCompressor().compress}[suffix]
    (tmp_path / f"a.{suffix}").write_bytes(compress("fine\n\nMäuse\n".encode("latin-1")))
    with pytest.raises(UserError, match=rf"^\S+/a\.{suffix}:3: not UTF-8"):
        read(f"text:{tmp_path}/a.{suffix}", strict=True)


def test_a_line_of_a_later_range_is_named_by_its_number_in_the_file(tmp_path, monkeypatch):
    data = "".join(f"line {i}\n" for i in range(1, 9)).replace("line 6", "Mäuse").encode("latin-1")
    (tmp_path / "a.txt").write_bytes(data)
    for cut in range(1, len(data)):
        monkeypatch.setattr(files, "RANGE_BYTES", cut)
        with pytest.raises(UserError, match=r"a\.txt:6: not UTF-8"):
            read(f"text:{tmp_path}/a.txt", strict=True)
