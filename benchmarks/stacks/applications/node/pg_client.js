// node-postgres with one connection for all requests: a defect, because their transactions get mixed up.
const { Client } = require('pg')
const { run } = require('./shop')

const client = new Client({ connectionString: process.env.DATABASE_URL })
client.on('error', () => {})
const connected = client.connect()

run(
  {
    async transaction() {
      await connected
      await client.query('BEGIN')
      const { rows } = await client.query('SELECT coalesce(max(number), 0) + 1 AS next FROM orders')
      await client.query('INSERT INTO orders (number) VALUES ($1)', [rows[0].next])
      await client.query('COMMIT')
    },
  },
  () => client.end(),
)
