# SPDX-License-Identifier: Apache-2.0
"""The card as the driver's libnvidia-ml.so.1 sees it: no context is made by looking."""
import ctypes
import time

MIB = 1 << 20


class NoCard(Exception):
    """A sentence why there is none."""


class Memory(ctypes.Structure):
    _fields_ = [("version", ctypes.c_uint)] + [
        (name, ctypes.c_ulonglong) for name in ("total", "reserved", "free", "used")]


class Process(ctypes.Structure):
    _fields_ = [("pid", ctypes.c_uint), ("bytes", ctypes.c_ulonglong),
                ("gpu_instance", ctypes.c_uint), ("compute_instance", ctypes.c_uint)]


class Card:
    def __init__(self, index=0):
        self.index = index
        try:
            ctypes.CDLL("libcuda.so.1")
            self.nvml = ctypes.CDLL("libnvidia-ml.so.1")
        except OSError as error:
            raise NoCard(f"there is no NVIDIA driver here: {error}") from error
        self.open()
        self.driver = self.text(self.nvml.nvmlSystemGetDriverVersion)
        self.uuid = self.text(self.nvml.nvmlDeviceGetUUID, self.handle)
        get_name = getattr(self.nvml, "nvmlDeviceGetName", None)
        self.is_fake = get_name is None  # that of tests/fakes has no such call
        self.name = "a fake" if self.is_fake else self.text(get_name, self.handle)

    def open(self):
        count = ctypes.c_uint()
        if self.nvml.nvmlInit_v2() or self.nvml.nvmlDeviceGetCount_v2(ctypes.byref(count)):
            raise NoCard("NVIDIA's driver does not start")
        self.handle = ctypes.c_void_p()
        if self.nvml.nvmlDeviceGetHandleByIndex_v2(self.index, ctypes.byref(self.handle)):
            raise NoCard(f"there is no GPU {self.index}: the driver shows {count.value}")

    def close(self):
        """This process has the card open no more, until open()."""
        self.nvml.nvmlShutdown()

    @staticmethod
    def text(call, *arguments):
        buffer = ctypes.create_string_buffer(96)
        return "unknown" if call(*arguments, buffer, 96) else buffer.value.decode()

    def memory(self):
        memory = Memory(version=ctypes.sizeof(Memory) | 2 << 24)
        if self.nvml.nvmlDeviceGetMemoryInfo_v2(self.handle, ctypes.byref(memory)):
            raise RuntimeError("NVML does not tell the card's memory")
        return memory

    def used(self):
        return self.memory().used

    def processes(self):
        """Bytes of each process; None where the driver does not say."""
        self.memory()  # tests/fakes lists what the last look at that has seen
        count, found = ctypes.c_uint(256), (Process * 256)()
        if self.nvml.nvmlDeviceGetComputeRunningProcesses_v3(
                self.handle, ctypes.byref(count), found):
            return {}
        return {p.pid: None if p.bytes == 2 ** 64 - 1 else p.bytes
                for p in found[:count.value]}

    def wait_used(self, most, seconds=60):
        """Milliseconds until no more than @most bytes are in use; None: too long."""
        begun = time.monotonic()
        while self.used() > most:
            if time.monotonic() - begun > seconds:
                return None
            time.sleep(0.001)
        return 1e3 * (time.monotonic() - begun)
