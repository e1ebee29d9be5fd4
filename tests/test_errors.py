from ctcd_jax.errors import one_line


def test_a_library_s_page_is_one_line_of_its_gist():
    page = ValueError("no such\n\n  field:  x\nfor example\n")
    assert one_line(page) == "no such field: x"
    assert one_line(page, lines=None) == "no such field: x for example"
    assert one_line(ValueError(" \n")) == "ValueError"
    long = one_line(ValueError("x" * 400))
    assert (len(long), long[-5:]) == (300, "x ...")
