"""The AL-RNN recurrence over time.

- ``eager``: a loop in PyTorch. It takes any floating dtype and can be differentiated twice and in forward mode. The
  other backends are tested against it.
- ``fused``: a few tensor operations per step and a hand-written backward pass.
- ``native``: a C kernel for float32 on the CPU, if a compiler was available when the package was installed.
- ``triton``: GPU kernels for float32 on NVIDIA devices since Ampere and up to 128 units, if Triton is installed.
- ``cudnn``: the ReLU RNN of PyTorch with 2M+P units, which cuDNN runs on CUDA devices. It rounds products to TF32
  unless ``torch.backends.cudnn.allow_tf32`` is off.

``auto`` uses the backend that the environment variable ``ALRNN_BACKEND`` names. Without it, ``auto`` uses ``native`` or
``triton`` if they fit, ``cudnn`` for more units on a CUDA device, ``eager`` in forward-mode differentiation, and
``fused`` otherwise. Neither ``triton`` nor ``cudnn`` has been run on a GPU yet: ``make gpu`` checks and times them.

``fused``, ``native`` and ``triton`` are one operator, ``torch.ops.lightning_alrnn.scan``, which works with
``torch.compile``, ``torch.export`` and ``torch.func``.
"""

from lightning_alrnn.nn.scan.dispatch import Backend, ScanOutput, available_backends, check_backend, run_recurrence

__all__ = ["Backend", "ScanOutput", "available_backends", "check_backend", "run_recurrence"]
