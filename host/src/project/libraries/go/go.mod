module github.com/netwasm/netwasm

go 1.24
