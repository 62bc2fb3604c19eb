package report

import (
	"io"
	"testing"
)

func BenchmarkWrite(b *testing.B) {
	in := nginxInput(b)
	for b.Loop() {
		if err := Write(io.Discard, in); err != nil {
			b.Fatal(err)
		}
	}
}
