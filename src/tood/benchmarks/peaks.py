"""Peak bf16 throughput of known GPUs, to relate measured throughput to."""

_BF16_TFLOPS = {
    "B200": 2250.0,
    "H200": 989.5,
    "H100 NVL": 835.5,
    "H100 PCIe": 756.5,
    "H100": 989.5,
    "A100": 312.0,
    "A40": 149.7,
    "A30": 165.0,
    "A10": 125.0,
    "L40S": 362.0,
    "L4": 121.0,
    "RTX A6000": 154.8,
    "RTX 4090": 165.2,
    "RTX 3090": 71.0,
}
"""Dense bf16 tensor-core peaks with float32 accumulation, from the vendor's data sheets."""


def bf16_peak(device_name: str) -> float | None:
    """Peak bf16 operations per second of the GPU of that name; None if it is not listed."""
    words = device_name.split()
    for name, teraflops in _BF16_TFLOPS.items():
        parts = name.split()
        starts = range(len(words) - len(parts) + 1)
        if any(_same(words[start : start + len(parts)], parts) for start in starts):
            return teraflops * 1e12
    return None


def _same(words: list[str], parts: list[str]) -> bool:
    """Whether the words name this GPU; a dash may follow (``A100-SXM4-80GB``), letters not (``L40S`` is no ``L4``)."""
    return words[:-1] == parts[:-1] and words[-1].split("-")[0] == parts[-1]
