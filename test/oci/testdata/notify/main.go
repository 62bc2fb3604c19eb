// Command notify says its arguments to the service manager, sd_notify(3).
package main

import (
	"log"
	"net"
	"os"
	"strings"
)

func main() {
	conn, err := net.Dial("unixgram", os.Getenv("NOTIFY_SOCKET"))
	if err == nil {
		_, err = conn.Write([]byte(strings.Join(os.Args[1:], "\n")))
	}
	if err != nil {
		log.Fatal(err)
	}
}
