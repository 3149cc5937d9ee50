// node-postgres with a pool. POOL is its size.
const { Pool } = require('pg')
const { retry, run } = require('./shop')

const NEXT = 'SELECT coalesce(max(number), 0) + 1 AS next FROM orders'
const INSERT = 'INSERT INTO orders (number) VALUES ($1)'
const pool = new Pool({ connectionString: process.env.DATABASE_URL, max: Number(process.env.POOL || 10) })
pool.on('error', () => {}) // a lost idle connection is replaced

async function transaction(work) {
  const client = await pool.connect()
  try {
    await client.query('BEGIN')
    const result = await work(client)
    await client.query('COMMIT')
    return result
  } catch (error) {
    await client.query('ROLLBACK')
    throw error
  } finally {
    client.release()
  }
}

async function createOrder(client) {
  const number = (await client.query(NEXT)).rows[0].next
  await client.query(INSERT, [number])
  return number
}

let last = Promise.resolve() // the tail of the queue behind the mutex

function exclusively(work) {
  const mine = last.then(work)
  last = mine.catch(() => {})
  return mine
}

const operations = {
  transaction: () => transaction(createOrder),
  autocommit: () => createOrder(pool),
  async simple() {
    const number = (await pool.query(NEXT)).rows[0].next
    await pool.query(`INSERT INTO orders (number) VALUES (${number})`)
    return number
  },
  locked: () =>
    transaction(async (client) => {
      await client.query('SELECT pg_advisory_xact_lock(42)')
      return createOrder(client)
    }),
  unique: () => retry((error) => error.code === '23505', () => transaction(createOrder)),
  // As unique, with a pause before the next try.
  backoff: () =>
    retry((error) => error.code === '23505', () =>
      transaction(createOrder).catch(async (error) => {
        await new Promise((resolve) => setTimeout(resolve, 20 + 30 * Math.random()))
        throw error
      }),
    ),
  // The whole transaction in one query string.
  async whole() {
    await pool.query('BEGIN; INSERT INTO orders (number) SELECT coalesce(max(number), 0) + 1 FROM orders; COMMIT')
  },
  // Two queries at once, over two connections; then an INSERT.
  async both() {
    const [orders] = await Promise.all([pool.query(NEXT), pool.query('SELECT count(*) FROM orders')])
    await pool.query(INSERT, [orders.rows[0].next])
  },
  // The order is made after the response.
  async afterwards(respond) {
    respond()
    await transaction(createOrder)
  },
  // One request at a time, in this process.
  mutex: () => exclusively(() => transaction(createOrder)),
  clear: () => exclusively(() => pool.query('DELETE FROM orders')),
}
run(operations, () => pool.end())

// A poller beside the requests.
if (process.env.POLL) setInterval(() => pool.query('SELECT 1 AS poll FROM orders').catch(() => {}), Number(process.env.POLL))
