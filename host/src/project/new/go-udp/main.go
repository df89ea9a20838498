// Sends each datagram back in capitals.
package main

import (
	"bytes"
	"log"
	"net/netip"

	"github.com/netwasm/netwasm"
)

// Nothing calls main: init is where a handler begins.
func init() {
	netwasm.ServeUDP(netwasm.Datagrams{
		Datagram: func(s *netwasm.Socket, data []byte, peer netip.AddrPort) {
			if err := s.SendTo(bytes.ToUpper(data), peer); err != nil {
				log.Print(err)
			}
		},
	})
}

func main() {}
