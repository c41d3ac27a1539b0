"""Text of any language reaches the model as it is: prompt ids decode back to the very text."""

from __future__ import annotations

import time
import unicodedata

import pytest
from tiny_models import CHATML, byte_tokenizer, chatml_tokenizer

from constitute.engines.render import Renderer
from constitute.engines.tokenizer import load_tokenizer
from constitute.errors import RowError
from constitute.packaged import model_path
from constitute.types import Message, Request

# "Hello" or "good day" in a hundred languages, and "thank you" where the greeting is plain ASCII.
WORDS = """
Përshëndetje|Sannu|Barev Բարեւ|مرحبا|Salam Əleyküm|Kaixo eskerrik
Добры дзень|হ্যালো|Zdravo hvala|Здравейте|မင်္ဂလာပါ|Bon dia gràcies
Moni zikomo|你好|您好嗎|Bonghjornu|Dobar dan živjeli|Ahoj děkuji
Hej på dig|Goedendag|Saluton dankon|Tere aitäh|Kamusta salamat|Päivää kiitos
Bonjour ça va|Goeie dei tankewol|Bos días grazas|გამარჯობა|Grüß Gott|Γειά σου
Mba'éichapa|નમસ્તે|Bonjou mèsi|Ina kwana|Aloha kākou|שלום
नमस्ते|Nyob zoo|Jó napot köszönöm|Halló góðan daginn|Ndewo daalụ|Halo terima kasih
Dia dhuit|Buongiorno è così|こんにちは|Sugeng énjing|ನಮಸ್ಕಾರ|Сәлеметсіз бе
ជំរាបសួរ|Muraho murakoze|안녕하세요|Silav|Саламатсызбы|ສະບາຍດີ
Salve quaeso|Sveiki paldies|Labas ačiū|Moien merci|Здраво|Salama misaotra
Selamat pagi|നമസ്കാരം|Bonġu grazzi|Kia ora tātou|नमस्कार|Сайн байна уу
नमस्ते धन्यवाद|God dag på|ନମସ୍କାର|سلام|درود بر شما|Dzień dobry źle
Bom dia não|ਸਤ ਸ੍ਰੀ ਅਕਾਲ|Bună ziua mulțumesc|Здравствуйте|Talofa fa'afetai|Halò a charaid
Добар дан|Lumela|Mhoro|سلام سائين|ආයුබෝවන්|Dobrý deň ďakujem
Dober dan čaj|Salaan iska warran|Buenos días ¿qué tal?|Sampurasun|Habari asubuhi|God morgon
Салом|வணக்கம்|Сәлам|నమస్కారం|สวัสดี|བཀྲ་ཤིས་བདེ་ལེགས།
ሰላም|Merhaba nasılsınız|Salam|Вітаю дякую|السلام علیکم|Assalomu alaykum
Xin chào cảm ơn|Bore da|Molo unjani|שלום עליכם|Ẹ káàárọ̀|Sawubona ngiyabonga
ᏏᏲ|Inuktitut ᐊᐃ|Hafa adai|Ke aloha nō
"""
LANGUAGES = WORDS.replace("\n", "|").strip("|").split("|")
ODD = {
    "a family joined by zero-width joiners": "👨‍👩‍👧‍👦 and 👩🏽‍🚀",
    "flags": "🇺🇳🇩🇪🏴󠁧󠁢󠁷󠁬󠁳󠁿",
    "right to left with marks": "‏שלום‏ (abc) ‎123",
    "combining marks": "e\u0301 n\u0303 a\u0323\u0302",
    "composed": unicodedata.normalize("NFC", "e\u0301 n\u0303"),
    "decomposed": unicodedata.normalize("NFD", "é ñ ẩ"),
    "beyond the basic plane": "𝒜𝓁𝓅𝒽𝒶 𠜎 𓀀",
    "spaces that are none": "a\u00a0b\u2003c\u200bd",
    "control characters": "a\x01b\x7fc",
}


def renderers() -> dict[str, Renderer]:
    toy = byte_tokenizer(CHATML, special=("<|im_start|>", "<|im_end|>"), eos="<|im_end|>")
    return {"bytes": Renderer(toy, "bytes"), "merges": Renderer(chatml_tokenizer(), "merges")}


RENDERERS = renderers()


def test_there_are_a_hundred_languages() -> None:
    assert len(LANGUAGES) >= 100 and len(set(LANGUAGES)) == len(LANGUAGES)


@pytest.mark.parametrize("name", RENDERERS)
def test_every_language_comes_back_as_it_was(name: str) -> None:
    renderer = RENDERERS[name]
    for text in LANGUAGES:
        ids = renderer.ids(Request(messages=(Message(role="user", content=text),)))
        assert text in renderer.tokenizer.decode(list(ids)), text
        answer = renderer.answer_ids([Message(role="user", content="Hi")], text)
        assert renderer.tokenizer.decode(answer[:-1]) == text


@pytest.mark.parametrize("what", ODD)
def test_odd_text_comes_back_as_it_was(what: str) -> None:
    renderer = RENDERERS["bytes"]
    ids = renderer.ids(Request(messages=(Message(role="user", content=ODD[what]),)))
    assert ODD[what] in renderer.tokenizer.decode(list(ids))


def test_the_embedded_model_reads_every_language_or_calls_a_character_unknown() -> None:
    """Its vocabulary is small: what it lacks becomes its unknown token and never a control token."""
    renderer = Renderer(load_tokenizer(model_path("pocket")), "pocket")
    plain = renderer.ids(Request(messages=(Message(role="user", content="q"),)))
    known = [token for token in plain if token in renderer.control]
    for text in (*LANGUAGES, *ODD.values()):
        ids = renderer.ids(Request(messages=(Message(role="user", content=text),)))
        found = [token for token in ids if token in renderer.control]
        unknown = renderer.tokenizer.unk_token_id
        assert [token for token in found if token != unknown] == [t for t in known if t != unknown], text


@pytest.mark.parametrize("text", ["\ud800", "a\udfffb", "\ud83d"])
def test_lone_surrogates_are_refused_by_row(text: str) -> None:
    with pytest.raises(RowError, match="lone surrogates and is not valid Unicode"):
        RENDERERS["bytes"].ids(Request(messages=(Message(role="user", content=text),)))


def test_thousands_of_special_tokens_cost_little() -> None:
    """A prompt takes about as long with 6,200 special tokens as with ten."""

    def seconds(count: int) -> float:
        names = ["<|im_start|>", "<|im_end|>", *(f"<|extra_{n}|>" for n in range(count))]
        renderer = Renderer(byte_tokenizer(CHATML, special=names, eos="<|im_end|>"), "many")
        best = float("inf")
        for n in range(30):
            asked = Request(messages=(Message(role="user", content=f"Question {n}? " * 20),))
            start = time.process_time()
            renderer.ids(asked)
            best = min(best, time.process_time() - start)
        return best

    assert seconds(6200) < 5 * seconds(10) + 0.002
