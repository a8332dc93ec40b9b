from zssr_gan.web.time_left import TimeLeft


def test_one_picture_has_the_time_that_was_expected_and_not_a_stages() -> None:
    left = TimeLeft(20.0)
    assert left.update({}, 0.0) == {"left_s": 20.0, "share": 0.0}
    shown = {"image": 1, "images": 1, "stage": "learning", "left_s": 0.5}
    assert left.update(shown, 5.0) == {**shown, "left_s": 15.0, "share": 0.25}
    assert left.update(shown, 30.0) == {**shown, "left_s": None, "share": 0.25}  # longer than expected
    assert TimeLeft(None).update(shown, 5.0) == {**shown, "left_s": None, "share": None}


def test_the_share_of_several_pictures_never_goes_back() -> None:
    left = TimeLeft(30.0)
    first = {"image": 1, "images": 4, "left_s": None}
    assert left.update(first, 15.0)["share"] == 0.5
    second = left.update({"image": 2, "images": 4, "left_s": 45.0}, 15.0)
    assert second["left_s"] == 45.0
    assert second["share"] == 0.5
    assert left.update({"image": 4, "images": 4, "left_s": 15.0}, 45.0)["share"] == 0.75
    assert left.update({"image": 4, "images": 4, "left_s": 0.0}, 60.0)["share"] == 0.99
