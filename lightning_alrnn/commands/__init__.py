"""The commands behind ``alrnn``. Help, options and ``alrnn configs`` are here without torch, which takes seconds."""
