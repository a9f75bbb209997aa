"""The checker of built pages finds what it is there for."""

import pytest

GOOD = (
    '<a href="sub/b.html#here">b</a> <a href="https://example.org">out</a>'
    '<img src="a.svg"><img src="data:image/png;base64,AAAA">'
    '<link rel="stylesheet" href="a.css?v=1">'
)


@pytest.fixture
def site(tmp_path, script):
    (tmp_path / "sub").mkdir()
    (tmp_path / "a.html").write_text(GOOD)
    (tmp_path / "sub" / "b.html").write_text('<h1 id="here">b</h1>')
    (tmp_path / "a.svg").write_text('<svg xmlns="http://www.w3.org/2000/svg"/>')
    (tmp_path / "a.css").write_text("a { background: url(a.svg) }")

    def faults(page: str = "", style: str = "") -> list[str]:
        (tmp_path / "a.html").write_text(GOOD + page)
        (tmp_path / "a.css").write_text(style)
        return script("check_site").faults(tmp_path)

    return faults


def test_a_site_without_faults_passes(site):
    assert site() == []


@pytest.mark.parametrize(
    "page",
    [
        '<script src="https://cdn.example.org/x.js"></script>',
        '<img src="//example.org/x.png">',
        '<link rel="stylesheet" href="https://example.org/font.css">',
        "<style>@import 'https://example.org/font.css';</style>",
        '<p style="background: url(https://example.org/x.png)">',
    ],
)
def test_what_is_loaded_from_a_network_is_found(site, page):
    (fault,) = site(page)

    assert "loads" in fault
    assert "example.org" in fault


def test_a_font_of_a_network_is_found_in_styles(site):
    (fault,) = site(style='@font-face { src: url("https://example.org/f.woff2") }')

    assert "a.css: loads https://example.org/f.woff2" in fault


@pytest.mark.parametrize(
    ("page", "said"),
    [
        ('<a href="gone.html">', "gone.html, which is not there"),
        ('<a href="sub/b.html#gone">', "no such anchor"),
        ('<a href="#gone">', "no such anchor"),
        ('<img src="gone.png">', "gone.png, which is not there"),
    ],
)
def test_dead_links_are_found(site, page, said):
    (fault,) = site(page)

    assert said in fault


def test_an_empty_folder_is_a_fault(tmp_path, script):
    assert script("check_site").faults(tmp_path) == [f"{tmp_path}: no page"]
