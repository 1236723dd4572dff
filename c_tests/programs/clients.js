// A program in node: 300 connections, 30 at once, from the address that is given or from any.
const net = require('net')
let left = 300

function next() {
	if (left-- <= 0)
		return
	const started = performance.now()
	const done = what => { console.log((performance.now() - started) / 1000, what); next() }
	let said = ''
	const made = net.connect({ port: 9000, host: '127.0.0.1', localAddress: process.argv[2] })
	made.on('connect', () => made.write('GET / HTTP/1.0\r\n\r\n'))
	made.on('data', data => { said += data })
	made.on('end', () => done(said.split(/\s+/).pop()))
	made.on('error', error => done(error.code))
}

for (let i = 0; i < 30; i++)
	next()
