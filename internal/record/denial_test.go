package record

func denialModes() map[string]func() error   { return nil }
func signalMode() error                      { return nil }
func targetModes() map[string]func() error   { return nil }
func recorderModes() map[string]func() error { return nil }
