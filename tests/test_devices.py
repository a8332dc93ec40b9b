"""Devices, precision, threads, tiles: resolved, refused in one sentence, and put back."""

from types import SimpleNamespace

import pytest
import torch

from zssr_gan.devices import RunOptions, has_fast_bf16, machine, resolve_device
from zssr_gan.errors import DeviceError, SettingsError, ZssrGanError


@pytest.fixture
def no_accelerator(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)


class TestResolveDevice:
    @pytest.mark.usefixtures("no_accelerator")
    def test_auto_without_accelerator_is_the_cpu(self) -> None:
        assert resolve_device("auto") == torch.device("cpu")

    @pytest.mark.usefixtures("two_gpus")
    def test_auto_prefers_cuda(self) -> None:
        assert resolve_device("auto").type == "cuda"

    @pytest.mark.usefixtures("no_accelerator")
    def test_auto_leaves_apples_gpu_to_who_asks_for_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
        assert resolve_device("auto").type == "cpu"
        assert resolve_device("mps").type == "mps"

    @pytest.mark.usefixtures("two_gpus")
    def test_a_numbered_gpu(self) -> None:
        assert resolve_device("cuda:1") == torch.device("cuda:1")
        with pytest.raises(DeviceError, match="no device 'cuda:2'"):
            resolve_device("cuda:2")

    @pytest.mark.usefixtures("no_accelerator")
    @pytest.mark.parametrize("name", ["cuda", "cuda:0", "mps"])
    def test_not_on_this_machine(self, name: str) -> None:
        with pytest.raises(DeviceError, match=rf"^this machine has no device '{name}'.*: use the device cpu$"):
            resolve_device(name)

    @pytest.mark.parametrize("name", ["gpu", "", "meta", "xpu", "cuda:x", "cuda:-1"])
    def test_unknown(self, name: str) -> None:
        with pytest.raises(DeviceError, match="no device") as caught:
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
