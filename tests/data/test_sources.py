import gzip
import lzma

import pytest
import zstandard

from ctcd_jax.data.sources import open_source
from ctcd_jax.errors import UserError

TEXT = "One line.\nAnother line.\n\n\n  Second document.  \n\nThird, with an é.\n"
DOCUMENTS = [["One line.", "Another line."], ["Second document."], ["Third, with an é."]]


def read(spec):
    return [
        (file.name, [list(document.paragraphs) for document in file.documents()]) for file in open_source(spec).files
    ]


def test_plain_and_compressed_text_are_the_same(tmp_path):
    raw = TEXT.encode()
    frames = [zstandard.ZstdCompressor().compress(part) for part in (raw[:20], raw[20:])]
    written = {"a.txt": raw, "a.gz": gzip.compress(raw), "a.xz": lzma.compress(raw), "a.zst": b"".join(frames)}
    for name, data in written.items():
        (tmp_path / name).write_bytes(data)
        assert read(f"text:{tmp_path / name}") == [(name, DOCUMENTS)]


def test_a_byte_order_mark_and_windows_line_ends_are_no_text(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbf" + TEXT.replace("\n", "\r\n").encode())
    assert read(f"text:{tmp_path}/a.txt") == [("a.txt", DOCUMENTS)]


def test_a_document_ends_after_a_thousand_lines(tmp_path):
    (tmp_path / "a.txt").write_text("line\n" * 2500)
    [(_, documents)] = read(f"text:{tmp_path}/a.txt")
    assert [len(document) for document in documents] == [1000, 1000, 500]


def test_files_come_sorted_and_are_named_from_the_root_of_the_glob(library):
    files = open_source(f"text:{library}/**/*.txt").files
    assert [file.name for file in files] == ["a.txt", "b.txt", "sub/c.txt"]
    document = next(iter(files[2].documents()))
    assert (document.path, document.number) == ("sub/c.txt", 0)


def test_input_files_can_be_read_again(library):
    [file] = open_source(f"text:{library}/a.txt").files
    assert list(file.documents()) == list(file.documents())


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("txt:a", "unknown kind 'txt' (did you mean 'text'?)"),
        ("text:a,split=train", "text knows no key 'split'"),
        ("text:/nowhere/*.txt", "no file matches '/nowhere/*.txt'"),
        ("docstrings:/nowhere", "/nowhere is not a directory"),
    ],
)
def test_a_bad_spec_is_one_line(spec, message):
    with pytest.raises(UserError) as caught:
        open_source(spec)
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


def test_text_that_is_not_utf8_is_named_with_its_line(tmp_path):
    (tmp_path / "a.txt").write_bytes("fine\nMäuse\n".encode("latin-1"))
    with pytest.raises(UserError, match=r"a\.txt: line 2 is not UTF-8"):
        read(f"text:{tmp_path}/a.txt")
