import pytest

from shared.speech.text.sentences import ends_clause, ends_sentence, with_marks


@pytest.mark.parametrize(
    ("word", "following", "language"),
    [
        ("home.", "Then", "en"),
        ('home."', "Then", "en"),
        ("Really?", "Yes", "en"),
        ("No.", "I", "en"),
        ("it.", None, "en"),
        ("5.", "Then", "en"),
        ("3.5.", "Then", "en"),
        ("etc.", "Then", "en"),
        ("I.", "Then", "en"),
        ("a.m.", "The", "en"),
        ("wait...", "Then", "en"),
        ("1989.", "Dann", "de"),
        ("Art.", "Dann", "de"),
        ("jour.", "« Oui", "fr"),
        ("día.", "¿Y", "es"),
        ("です。", "それ", "ja"),
        ("da?“", "Niemand", "de"),
        ("я.", "Потом", "ru"),
        ("κάνεις;", "Καλά", "el"),
        ("ہے۔", "آپ", "ur"),  # noqa: RUF001
        ("է։", "Լավ", "hy"),  # noqa: RUF001
        ("ነው።", "አዎ", "am"),
        ("ကောင်းတယ်။", "ဟုတ်ကဲ့", "my"),
        ("है।", "यह", "hi"),
        ("نعم؟", "لا", "ar"),
    ],
)
def test_sentence_ends(word: str, following: str | None, language: str) -> None:
    assert ends_sentence(word, following, language)


@pytest.mark.parametrize(
    ("word", "following", "language"),
    [
        ("home,", "Then", "en"),
        ("Dr.", "Müller", "en"),
        ("(Mr.", "Smith", "en"),
        ("Mrs.", "Smith", None),
        ("J.", "Smith", "en"),
        ("e.g.", "London", "en"),
        ("No.", "5", "en"),
        ("etc.", "and", "en"),
        ('"What?"', "said", "en"),
        ("wait...", "then", "en"),
        ("U.S.", "Army", "en"),
        ("z.", "B.", "de"),
        ("B.", "Äpfel", "de"),
        ("z.B.", "Äpfel", "de"),
        ("bzw.", "Birnen", "de"),
        ("Nr.", "5", "de"),
        ("3.", "Oktober", "de"),
        ("Mme.", "Dupont", "fr"),
        ("Sra.", "García", "es"),
        ("Dra.", "Silva", "pt"),
        ("Sig.", "Rossi", "it"),
        ("dhr.", "Jansen", "nl"),
        ("np.", "Kraków", "pl"),
        ("f.eks.", "Oslo", "nb"),
        ("17.", "Mai", "nb"),
        ("Dipl.-Ing.", "Maier", "de"),
        ("l'art.", "5", "fr"),
        ("J.-P.", "Sartre", "fr"),
        ("ул.", "Ленина", "ru"),
        ("г.", "Москве", "ru"),  # noqa: RUF001
        ("डॉ.", "शर्मा", "hi"),
        ("good;", "Then", "en"),
        ("Viens!", "»", "fr"),
        ("wait.", "..", "en"),
    ],
)
def test_abbreviations_and_the_like_end_no_sentence(
    word: str, following: str, language: str | None
) -> None:
    assert not ends_sentence(word, following, language)


@pytest.mark.parametrize(
    "word", ["well,", "(here)", "so:", "それは、", "نعم،", "wait--", '"What?"']
)
def test_marks_set_clauses_off(word: str) -> None:
    assert ends_clause(word)


@pytest.mark.parametrize("word", ["well", "Dr.", "boys'", "l’", "", "semi-"])  # noqa: RUF001
def test_other_words_end_no_clause(word: str) -> None:
    assert not ends_clause(word)


@pytest.mark.parametrize(
    ("before", "word", "expected"),
    [("Viens!", "»", "Viens!»"), ("Mr", ".", "Mr."), ("Yes.", "No", "No"), ("", "–", "–")],  # noqa: RUF001
)
def test_marks_that_stand_apart_belong_to_the_word_before_them(
    before: str, word: str, expected: str
) -> None:
    assert with_marks(before, word) == expected
