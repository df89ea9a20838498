"""FastAPI served by uvicorn. Its pydantic is of version 1, which is pure Python: the core of
version 2 is compiled.
"""

import sys

import uvicorn
from fastapi import FastAPI, HTTPException
from pydantic import BaseModel


class Item(BaseModel):
    name: str
    price: float
    tags: list[str] = []


app = FastAPI()


@app.get("/items/{number}")
async def find(number: int, q: str = ""):
    if number == 9:
        raise HTTPException(404, "there is no such item")
    return {"number": number, "q": q}


@app.post("/items")
async def add(item: Item):
    return {"name": item.name.upper(), "price": item.price * 2, "tags": len(item.tags)}


uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="info")
