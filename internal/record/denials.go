package record

// OpenDenials loads programs that see nothing but denials: calls are not
// counted, and neither arguments nor granted capabilities are kept, so that
// Recording.Syscalls is empty. It takes one recording at a time, whose targets
// are cgroups with AtExec. Nothing is attached. For the file see Open.
func OpenDenials(file string) (*Recorder, error) { return openFile(file, 1, nil) }

// refusals reports whether a call failed after a capability was refused: only
// then does it matter why the kernel asked, which takes the kernel's symbols.
func (s *Session) refusals() (bool, error) {
	var key mapDenialKey
	var d mapDenial
	entries := s.r.coll.Maps["denials"].Iterate()
	for entries.Next(&key, &d) {
		if key.Session == s.number && key.Reason == byCapability {
			return true, nil
		}
	}
	return false, entries.Err()
}
