"""Pages of HTML: escaped texts, and the policy that admits their own scripts only."""

import base64
import hashlib

from rxmdnn.analysis.page import Markup, escaped, image, page, section, table, tag


def test_texts_are_escaped_wherever_they_enter():
    assert escaped("<b> & \"c\"") == "&lt;b&gt; &amp; &quot;c&quot;" and escaped(None) == "–"
    assert tag("p", "a<b", tag("i", 3), title='"x', class_="y") == '<p title="&quot;x" class="y">a&lt;b<i>3</i></p>'
    assert "<td>&lt;i&gt;</td>" in table(("<u>",), [("<i>",)]) and "<th>&lt;u&gt;</th>" in table(("<u>",), [])
    assert "<h2>&lt;h&gt;</h2>" in section("<h>") and escaped(Markup("<b>")) == "<b>"
    assert "<title>&lt;/title&gt;</title>" in page("</title>")


def test_only_the_given_scripts_may_run():
    text = page("t", scripts=["let a = 1;"])
    digest = base64.b64encode(hashlib.sha256(b"let a = 1;").digest()).decode()
    assert f"script-src 'sha256-{digest}'\"" in text and "<script>let a = 1;</script>" in text
    assert "script-src 'none'\"" in page("t")


def test_an_image_is_part_of_the_page(tmp_path):
    (tmp_path / "a.png").write_bytes(b"\x89PNG")
    made = image(tmp_path / "a.png", "it's <1>")
    assert "data:image/png;base64,iVBORw==" in made and "<figcaption>it&#x27;s &lt;1&gt;</figcaption>" in made
