"""Devices, precision, threads, tiles: resolved, refused in one sentence, and put back."""

from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch

from zssr_gan.devices import RunOptions, has_fast_bf16, machine, resolve_device
from zssr_gan.errors import DeviceError, SettingsError, ZssrGanError


@pytest.fixture
def hardware(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, bool], None]:
    """Makes a machine of so many CUDA GPUs, and with Apple's or without."""

    def arrange(gpus: int, mps: bool) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)

    return arrange


@pytest.mark.parametrize(
    ("gpus", "mps", "asked", "found"),
    [
        (0, False, "auto", "cpu"),
        (2, False, "auto", "cuda"),
        (0, True, "auto", "cpu"),  # Apple's GPU is left to who asks for it
        (0, True, "mps", "mps"),
        (2, False, "cuda:1", "cuda:1"),
    ],
)
def test_a_device_is_found(hardware: Callable[..., None], gpus: int, mps: bool, asked: str, found: str) -> None:
    hardware(gpus, mps)
    assert str(resolve_device(asked)).startswith(found)


@pytest.mark.parametrize(
    ("gpus", "name", "words"),
    [
        *(
            (0, name, f"^this machine has no device '{name}'.*: use the device cpu$")
            for name in ("cuda", "cuda:0", "mps")
        ),
        (2, "cuda:2", "no device 'cuda:2'"),
        *((0, name, "no device") for name in ("gpu", "", "meta", "xpu", "cuda:x", "cuda:-1")),
    ],
)
def test_a_device_that_is_not_there(hardware: Callable[..., None], gpus: int, name: str, words: str) -> None:
    hardware(gpus, False)
    with pytest.raises(DeviceError, match=words) as caught:
        resolve_device(name)
    assert "\n" not in str(caught.value)


class TestMachine:
    def test_what_is_asked_for_is_used(self) -> None:
        with machine(RunOptions("cpu", "bf16", threads=2, tile=48)) as used:
            assert (used.device, used.precision, used.threads, used.tile) == (torch.device("cpu"), "bf16", 2, 48)
            assert torch.get_num_threads() == 2

    def test_defaults_are_resolved(self) -> None:
        with machine(RunOptions("cpu")) as used:
            assert used.precision in ("fp32", "bf16")
            assert used.threads == torch.get_num_threads()
            assert used.tile == 512

    @pytest.mark.parametrize(("fast", "precision"), [(True, "bf16"), (False, "fp32")])
    def test_auto_takes_bf16_only_where_it_is_fast(
        self, fast: bool, precision: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": fast}, raising=False)
        assert has_fast_bf16(torch.device("cpu")) is fast
        with machine(RunOptions("cpu")) as used:
            assert used.precision == precision

    def test_an_older_torch_knows_no_capabilities(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(torch, "cpu", SimpleNamespace())
        assert has_fast_bf16(torch.device("cpu")) is False

    def test_a_small_image_takes_one_thread_unless_threads_are_said(self) -> None:
        threads = [RunOptions("cpu").for_image(side * side).threads for side in (8, 128, 129)]
        assert threads == [1, 1, None]
        assert RunOptions("cpu", threads=3).for_image(64).threads == 3

    def test_small_images_at_once(self) -> None:
        with machine(RunOptions("cpu", threads=3)):
            assert RunOptions("cpu").small_images_at_once == 3
            assert RunOptions("cpu", threads=2).small_images_at_once == 1
            assert RunOptions("cuda").small_images_at_once == 1

    @pytest.mark.parametrize("fails", [False, True])
    def test_global_settings_are_put_back(self, fails: bool, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(torch.backends.cudnn, "deterministic", False)
        monkeypatch.setattr(torch.backends.cudnn, "benchmark", True)
        before = torch.get_num_threads()
        try:
            with machine(RunOptions("cpu", threads=before + 1)):
                assert (torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark) == (True, False)
                if fails:
                    raise RuntimeError("inside")
        except RuntimeError:
            assert fails
        assert torch.get_num_threads() == before
        assert (torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark) == (False, True)

    @pytest.mark.parametrize(
        ("options", "words"),
        [
            (RunOptions("cpu", precision="fp16"), "no precision is called 'fp16'"),
            (RunOptions("cpu", threads=0), "0 threads"),
            (RunOptions("cpu", threads=1025), "1025 threads are too many: use at most 1024"),
            (RunOptions("cpu", tile=15), "tiles of 15 pixels are too small"),
            (RunOptions("nowhere"), "no device is called 'nowhere'"),
        ],
    )
    def test_refused(self, options: RunOptions, words: str) -> None:
        with pytest.raises(ZssrGanError, match=words), machine(options):
            pass

    def test_apples_gpu_has_no_bf16_here(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
        with pytest.raises(SettingsError, match="bf16"), machine(RunOptions("mps", "bf16")):
            pass
