package early

// entry is where a program may begin, see the package's documentation. It calls
// sealFrom.
func entry()
