"""Makes packages/models/fixtures/tokenizer/ftfy.json: OpenAI's tokenizer and ftfy on awkward strings.

Needs simple_tokenizer.py of the openai/CLIP repository, which is not a package; it runs on our vocabulary.
Strings that ftfy takes for mis-decoded and re-encodes are left out and counted: that repair is not built.
"""

import argparse
import gzip
import importlib.util
import json
import pathlib
import random
import tempfile

import ftfy
from make_tokenizer_fixtures import FOLDER, WORDS, noise, sentence

MORE = """&lt;b&gt; &amp;amp; &amp;lt; &eacute; &EACUTE; &Eacute; &nTILDE; &NTILDE; &notit; &not; &notin; &copy &COPY; &#39; &#x27; &#X41;
&#128; &#150; &#0; &#1114112; &#xD800; &#59; &#; &#x; &; &bogus; &AMP; &amp &ampx; &frac12; &FRAC12; &szlig; &SZLIG; &Dagger; &fjlig;
&nbsp;x &#8217; &quot;q&quot; &lt;|endoftext|&gt; ‘a’ ‚b‛ “c” ‟d„ ʼe ﬀ ﬃ ﬆ ﬅ ŉ Ǆ ǆ Ĳ ㍿ ＡＢ＃ ｶﾞ ￦ ﾡ\u0081\u0085x \u0093hi\u0094 a\u2028b c\u2029d
\u001b[31mred\u001b[0m \u001b[K x\u0007y \ufeffbom \ufffcobj \u206ax Å é ÉTÉ 'S 'ſ 'Re ΌΔΟΣ ΑΣ. İİ <i>&lt;</i> <|EndOfText|>""".split(" ")


def pieces():
    return [word for chunk in MORE for word in chunk.split("\n")]


def strings():
    rng = random.Random(31)
    fixed = pieces() + ["a &lt;\n<b> &lt;\n&lt;", "a\r\nb\rc", "  x \u3000 y\u00a0 ", "<|startoftext|>a <|endoftext|>", "&amp;amp;lt;", ""]
    for count, make in ((110, sentence), (80, noise)):
        fixed += [make(rng) for _ in range(count)]
    fixed += [" ".join(rng.choice(pieces() + WORDS) for _ in range(rng.randint(2, 8))) for _ in range(180)]
    return list(dict.fromkeys(fixed))


def openai_tokenizer(path):
    spec = importlib.util.spec_from_file_location("simple_tokenizer", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    with tempfile.NamedTemporaryFile(suffix=".txt.gz") as file:
        file.write(gzip.compress((FOLDER / "merges.txt").read_bytes().rstrip(b"\n")))
        file.flush()
        return module.SimpleTokenizer(file.name)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("simple_tokenizer", type=pathlib.Path)
    parser.add_argument("--out", type=pathlib.Path, default=FOLDER / "ftfy.json")
    arguments = parser.parse_args()
    tokenizer = openai_tokenizer(arguments.simple_tokenizer)
    rows, left_out = [], 0
    for text in strings():
        if ftfy.fix_text(text) != ftfy.fix_text(text, fix_encoding=False):
            left_out += 1
        else:
            rows.append([text, ftfy.fix_text(text), " ".join(map(str, tokenizer.encode(text)))])
    body = ",\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    arguments.out.write_text(f'{{"ftfy":"{ftfy.__version__}","rows":[\n{body}\n]}}\n', encoding="utf-8")
    print(f"{len(rows)} strings, {left_out} left out, {arguments.out.stat().st_size} bytes")


if __name__ == "__main__":
    main()
