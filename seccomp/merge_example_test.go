package seccomp_test

import (
	"fmt"
	"log"

	"github.com/brig-run/brig/seccomp"
)

func ExampleMerge() {
	one, err := seccomp.ParseText("one", []byte("default errno EPERM\nallow read write\n"))
	if err != nil {
		log.Fatal(err)
	}
	two, err := seccomp.ParseText("two", []byte("default errno EPERM\nallow read\nallow socket when arg0 == AF_UNIX\n"))
	if err != nil {
		log.Fatal(err)
	}
	both, err := seccomp.Merge(one, two)
	if err != nil {
		log.Fatal(err)
	}
	text, err := both.Text()
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s", text)
	// Output:
	// default errno EPERM
	//
	// allow read write
	// allow socket when arg0 == AF_UNIX
}
