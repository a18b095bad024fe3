package procmem

func peak() (int64, bool) { return field("/proc/self/status", "VmHWM") }
