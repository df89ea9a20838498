// Answers in capitals.
package main

import (
	"bytes"

	"github.com/netwasm/netwasm"
)

// Nothing calls main: init is where a handler begins.
func init() {
	netwasm.ServeTCP(netwasm.Events{
		Data: func(c *netwasm.Conn, data []byte) {
			c.Write(bytes.ToUpper(data))
			// The client does not read, so read no more of what it sends.
			if c.Full() {
				c.PauseReading()
			}
		},
		Writable: func(c *netwasm.Conn) { c.ResumeReading() },
	})
}

func main() {}
