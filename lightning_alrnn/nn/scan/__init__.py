"""The AL-RNN recurrence over time.

Five backends compute it:

- ``eager``: the equation written as a loop. It takes any floating dtype and can be differentiated twice and in forward
  mode. The other backends are tested against it.
- ``fused``: a few tensor operations a step and a hand-written backward pass.
- ``native``: a C kernel, forward and backward, for float32 on the CPU; there where a compiler was at hand when the
  package was installed.
- ``triton``: a GPU kernel each for forward and backward, for float32 on NVIDIA's devices since Ampere and up to 128
  units; there where Triton is installed, as it is with PyTorch's builds for CUDA.
- ``cudnn``: torch's own ReLU RNN with 2M+P units, which cuDNN runs on CUDA devices. With
  ``torch.backends.cudnn.allow_tf32`` at its default, cuDNN rounds products to TF32.

``auto`` takes ``native`` or ``triton`` where it can, ``cudnn`` for a network of more units on a CUDA device, and
``fused`` elsewhere (in forward-mode differentiation ``eager``), or what the environment variable ``ALRNN_BACKEND``
names. Neither ``triton`` nor ``cudnn`` has been run on a GPU yet: ``make gpu`` checks and times them on yours.

``fused``, ``native`` and ``triton`` are one operator, ``torch.ops.lightning_alrnn.scan``, which ``torch.compile``,
``torch.export`` and ``torch.func`` take as it is.
"""

from lightning_alrnn.nn.scan.dispatch import Backend, ScanOutput, available_backends, check_backend, run_recurrence

__all__ = ["Backend", "ScanOutput", "available_backends", "check_backend", "run_recurrence"]
